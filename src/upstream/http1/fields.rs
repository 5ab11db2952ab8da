//! Field lines of responses and trailers (RFC 9112, section 5).
//!
//! The types of `http` check every octet of a name and a value. A parser in front of them would check it a second time;
//! what is left to do here is to find the ends of lines and the colons.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// Room in a header map for usual fields and for those that a response gets on its way to the client.
const USUAL_FIELDS: usize = 16;
/// Names that are remembered, and the longest of them.
const REMEMBERED: usize = 32;
const LONGEST: usize = 64;

const MALFORMED: &str = "a malformed header field";

/// Field names as they were written before: an endpoint writes the same ones in each response, and to look one up is
/// cheaper than to parse it.
#[derive(Default)]
pub(super) struct Names(Vec<Option<(Box<[u8]>, HeaderName)>>);

impl Names {
    fn name(&mut self, written: &[u8]) -> Result<HeaderName, &'static str> {
        let (Some(first), Some(last)) = (written.first(), written.last()) else {
            return Err(MALFORMED);
        };
        let place = (written.len() * 7 + usize::from(*first) * 3 + usize::from(*last)) % REMEMBERED;
        if let Some(Some((known, name))) = self.0.get(place)
            && **known == *written
        {
            return Ok(name.clone());
        }
        let name = HeaderName::from_bytes(written).map_err(|_| MALFORMED)?;
        if written.len() <= LONGEST {
            self.0.resize(REMEMBERED, None);
            if let Some(slot) = self.0.get_mut(place) {
                *slot = Some((written.into(), name.clone()));
            }
        }
        Ok(name)
    }
}

/// Reads field lines from `from` on, up to the empty line that ends them. Gives those that `keep` keeps, and where
/// the empty line ends; none while that is not there. Values are slices of `bytes`.
///
/// # Errors
/// What is wrong with a field, that there are more than `limit`, or what `keep` says.
pub(super) fn parse(
    bytes: &Bytes,
    from: usize,
    limit: usize,
    names: &mut Names,
    mut keep: impl FnMut(&HeaderName, &[u8]) -> Result<bool, &'static str>,
) -> Result<Option<(HeaderMap, usize)>, &'static str> {
    let mut fields = HeaderMap::try_with_capacity(USUAL_FIELDS).map_err(|_| MALFORMED)?;
    let mut at = from;
    let mut count = 0;
    loop {
        let Some((line, next)) = line(bytes, at) else {
            return Ok(None);
        };
        at = next;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        count += 1;
        if count > limit {
            return Err("too many header fields");
        }
        let colon = memchr(b':', line).ok_or(MALFORMED)?;
        let (name, value) = line.split_at(colon);
        let name = names.name(name)?;
        let value = trim(value.get(1..).unwrap_or_default());
        if keep(&name, value)? {
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| MALFORMED)?;
            fields.try_append(name, value).map_err(|_| MALFORMED)?;
        }
    }
}

/// The line that begins at `at`, without its end, and where the next begins; none while its end is not there. A lone
/// LF is an end, too (RFC 9112, section 2.2).
pub(super) fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let line = rest.get(..memchr(b'\n', rest)?)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), at + line.len() + 1))
}

/// Without the optional white space around it.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 8;

    type Listed = Vec<(String, Vec<u8>)>;

    /// What another parser makes of the same octets.
    fn reference(bytes: &[u8]) -> Result<Option<Listed>, ()> {
        let mut fields = [httparse::EMPTY_HEADER; LIMIT];
        match httparse::parse_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => Ok(Some(
                fields
                    .iter()
                    .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                    .collect(),
            )),
            Ok(httparse::Status::Partial) => Ok(None),
            Err(_) => Err(()),
        }
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just(b"\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            6 => Just(b": ".to_vec()),
            2 => Just(b":".to_vec()),
            2 => Just(b" \t".to_vec()),
            4 => "[a-zA-Z-]{1,12}".prop_map(String::into_bytes),
            3 => prop::collection::vec(any::<u8>(), 1..4),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn octets_are_read_as_another_parser_reads_them(octets in octets(), twice in any::<bool>()) {
            let bytes = Bytes::from(octets);
            let mut names = Names::default();
            if twice {
                // What was remembered must not change anything.
                let _first = parse(&bytes, 0, LIMIT, &mut names, |_, _| Ok(true));
            }
            let found = parse(&bytes, 0, LIMIT, &mut names, |_, _| Ok(true));
            match reference(&bytes) {
                Ok(Some(expected)) => {
                    let (fields, end) = found.unwrap().unwrap();
                    let mut listed: Listed = fields
                        .iter()
                        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                        .collect();
                    // A map has the values of a name together.
                    let mut expected = expected;
                    expected.sort_by(|a, b| a.0.cmp(&b.0));
                    listed.sort_by(|a, b| a.0.cmp(&b.0));
                    prop_assert_eq!(listed, expected);
                    prop_assert!(bytes[..end].ends_with(b"\n"));
                }
                // What is wrong may be noticed a line later, but is never taken for a whole head.
                Ok(None) => prop_assert!(!matches!(found, Ok(Some(_)))),
                Err(()) => prop_assert!(!matches!(found, Ok(Some(_)))),
            }
        }
    }

    #[test]
    fn remembered_names_keep_to_their_places() {
        let mut names = Names::default();
        for written in [
            "Content-Type",
            "content-type",
            "X-Own",
            "Content-Type",
            "x-own",
            "X-Own",
        ] {
            assert_eq!(
                names.name(written.as_bytes()).unwrap(),
                written.to_ascii_lowercase().as_str()
            );
        }
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(names.name(long.as_bytes()).unwrap(), long.as_str());
        assert!(names.0.iter().flatten().all(|(known, _)| known.len() <= LONGEST));
        assert!(names.name(b"").is_err() && names.name(b"a b").is_err());
        assert_eq!(names.0.len(), REMEMBERED);
    }
}
