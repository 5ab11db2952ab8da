//! Parts of a key, framed by their length so that no two lists of parts have the same bytes.

/// Appends `part` behind its length.
pub(super) fn write_frame(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&length(part.len()));
    out.extend_from_slice(part);
}

/// A length as it stands in a frame. No part comes near 4 GiB: heads are bounded by the listener.
pub(super) fn length(octets: usize) -> [u8; 4] {
    u32::try_from(octets).unwrap_or(u32::MAX).to_le_bytes()
}

/// Appends a part that may be absent: a mark, then the frame of what `write` appends if it says there is something.
pub(super) fn write_optional(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) {
    let mark = out.len();
    out.extend_from_slice(&[1, 0, 0, 0, 0]);
    let start = out.len();
    if write(out) {
        let written = length(out.len() - start);
        out[mark + 1..start].copy_from_slice(&written);
    } else {
        out.truncate(mark);
        out.push(0);
    }
}

/// Takes one frame off `rest`.
pub(super) fn read_frame<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_a_torn_one_does_not() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"abc");
        write_frame(&mut bytes, b"");
        let mut rest = &bytes[..];
        assert_eq!(read_frame(&mut rest), Some(&b"abc"[..]));
        assert_eq!(read_frame(&mut rest), Some(&b""[..]));
        assert_eq!(read_frame(&mut rest), None);
        assert_eq!(read_frame(&mut &bytes[..6]), None);
    }

    #[test]
    fn an_absent_part_differs_from_an_empty_one() {
        let written = |part: Option<&[u8]>| {
            let mut out = b"before".to_vec();
            write_optional(&mut out, |out| {
                out.extend_from_slice(part.unwrap_or(b"leftover"));
                part.is_some()
            });
            out
        };
        assert_eq!(written(None), b"before\0");
        assert_eq!(written(Some(b"")), b"before\x01\0\0\0\0");
        assert_eq!(written(Some(b"ab")), b"before\x01\x02\0\0\0ab");
    }
}
