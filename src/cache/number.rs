//! Numbers of variable length, for what is kept beside many entries.

/// Appends a number, seven bits to a byte, the lowest first (LEB128).
pub(super) fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Takes a number off `rest`.
pub(super) fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Appends `part` behind its length.
pub(super) fn write_bytes(part: &[u8], out: &mut Vec<u8>) {
    write_number(part.len() as u64, out);
    out.extend_from_slice(part);
}

/// Takes off `rest` what [`write_bytes`] wrote.
pub(super) fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_number(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_torn_ones_do_not() {
        let mut bytes = Vec::new();
        for number in [0, 1, 127, 128, 300, u64::MAX] {
            bytes.clear();
            write_number(number, &mut bytes);
            assert_eq!(read_number(&mut &bytes[..]), Some(number));
        }
        assert_eq!(read_number(&mut &bytes[..3]), None);
        assert_eq!(read_number(&mut &[0xff; 20][..]), None);
    }

    #[test]
    fn parts_read_back_and_torn_ones_do_not() {
        let mut bytes = Vec::new();
        write_bytes(b"abc", &mut bytes);
        write_bytes(b"", &mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(read_bytes(&mut rest), Some(&b"abc"[..]));
        assert_eq!((read_bytes(&mut rest), rest), (Some(&b""[..]), &b""[..]));
        assert_eq!(read_bytes(&mut &bytes[..3]), None);
        assert_eq!(read_bytes(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f, 1][..]), None);
    }
}
