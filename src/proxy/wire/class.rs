//! Which byte may stand where.

/// Method and field-name characters (RFC 9110, section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// Path characters of a target. RFC 3986's, and `[`, `]`, `^`, `|` and braces, which clients send raw; not `\`, which
/// some servers take for `/`.
pub(super) const PATH: u8 = 2;
/// Query characters of a target: RFC 3986's and what browsers do not encode.
pub(super) const QUERY: u8 = 4;
/// Characters of a registered name or IPv4 address, kept to what names in use are made of.
pub(super) const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

/// Whether every byte is of `class`.
pub(super) fn all(bytes: &[u8], class: u8) -> bool {
    // Without an early exit: bad bytes are rare, and this is most of the work on a head.
    bytes
        .iter()
        .fold(class, |class, byte| class & CLASSES[*byte as usize])
        != 0
}

/// Whether every byte is a field-value character: visible, space, tab or of the obsolete upper half (RFC 9110, section
/// 5.5). Most of a head is values, so this is written as comparisons, which the compiler does for many bytes at once.
pub(super) fn all_value(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, byte| {
        bad | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f)
    })
}

/// Whether `byte` is of `class`.
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        if matches!(byte, b'!' | b'$'..=b';' | b'=' | b'@'..=b'[' | b']'..=b'_' | b'a'..=b'~') {
            class |= PATH;
        }
        if matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'~') {
            class |= QUERY;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        table[index] = class;
        index += 1;
    }
    table
}
