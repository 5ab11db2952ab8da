//! Which node of a cluster serves which keys.

use redis::Value;

use crate::config::RedisServer;

/// Slots that a cluster has.
const SLOTS: u16 = 16_384;

/// The slots of a cluster and the primaries that serve them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// Sorted by the first slot; not overlapping.
    ranges: Vec<Range>,
    /// Every primary once.
    primaries: Vec<RedisServer>,
    /// Every replica once.
    replicas: Vec<RedisServer>,
}

#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    /// Index into `primaries`.
    primary: usize,
}

impl Slots {
    /// Reads the answer of `asked` to `CLUSTER SLOTS`. None if it is not such an answer, or no slot is served.
    pub(super) fn parse(answer: &Value, asked: &RedisServer) -> Option<Self> {
        let Value::Array(rows) = answer else {
            return None;
        };
        let mut slots = Self::default();
        for row in rows.iter().take(usize::from(SLOTS)) {
            let Value::Array(row) = row else {
                return None;
            };
            let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = row.as_slice() else {
                return None;
            };
            let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else {
                return None;
            };
            if let Some(server) = node(primary, asked) {
                let primary = index(&mut slots.primaries, server);
                slots.ranges.push(Range { first, last, primary });
            }
            for replica in replicas {
                if let Some(server) = node(replica, asked) {
                    index(&mut slots.replicas, server);
                }
            }
        }
        slots.ranges.sort_by_key(|range| range.first);
        (!slots.ranges.is_empty()).then_some(slots)
    }

    /// The primary that serves `key`.
    pub(super) fn primary(&self, key: &[u8]) -> Option<&RedisServer> {
        let slot = number(key);
        let after = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        if slot > range.last {
            return None;
        }
        self.primaries.get(range.primary)
    }

    /// Every node, primaries first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.primaries.iter().chain(&self.replicas)
    }
}

/// The slot of `key`: CRC-16/XMODEM of it, or of what stands between its first braces, modulo the number of slots (Redis
/// cluster specification, "Hash tags").
fn number(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &rest[..length])
    });
    let mut crc = 0_u16;
    for byte in tagged.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc % SLOTS
}

fn index(servers: &mut Vec<RedisServer>, server: RedisServer) -> usize {
    match servers.iter().position(|known| *known == server) {
        Some(at) => at,
        None => {
            servers.push(server);
            servers.len() - 1
        }
    }
}

/// `[host, port, id, ...]`; the host is null or empty where it is the one that was asked, and `?` where it is not known.
fn node(value: &Value, asked: &RedisServer) -> Option<RedisServer> {
    let Value::Array(fields) = value else {
        return None;
    };
    let [host, Value::Int(port), ..] = fields.as_slice() else {
        return None;
    };
    let host = match host {
        Value::Nil => "",
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        _ => return None,
    };
    let host = match host {
        "?" => return None,
        "" => &asked.host,
        host => host,
    };
    Some(RedisServer {
        host: host.to_owned(),
        port: u16::try_from(*port).ok().filter(|port| *port != 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> RedisServer {
        RedisServer {
            host: host.to_owned(),
            port,
        }
    }

    fn parse(answer: &str) -> Option<Slots> {
        let value = redis::parse_redis_value(answer.replace('|', "\r\n").as_bytes()).unwrap();
        Slots::parse(&value, &server("asked", 7000))
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(number(b"123456789"), 0x31c3);
        assert_eq!(number(b"foo"), 12_182);
        assert_eq!(number(b"{user1000}.following"), number(b"user1000"));
        assert_eq!(number(b"foo{}{bar}"), number_of_all(b"foo{}{bar}"));
        assert_eq!(number(b"foo{{bar}}zap"), number(b"{bar"));
        assert_eq!(number(b"foo{bar}{zap}"), number(b"bar"));
    }

    /// The slot of a key without looking for braces: they are swapped for what is none, byte by byte.
    fn number_of_all(key: &[u8]) -> u16 {
        let mut crc = 0_u32;
        for byte in key {
            crc ^= u32::from(*byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 == 0 {
                    crc << 1
                } else {
                    (crc << 1) ^ 0x1021
                };
            }
            crc &= 0xffff;
        }
        u16::try_from(crc).unwrap() % SLOTS
    }

    #[test]
    fn a_key_is_served_by_the_primary_of_its_slot() {
        // `foo` has slot 12182, `bar` 5061, `hello` 866.
        let slots =
            parse("*2|*4|:4000|:8191|*3|$1|b|:7002|$2|id|*2|$0||:7005|*3|:8192|:16383|*2|_|:7003|").unwrap();
        assert_eq!(slots.primary(b"bar"), Some(&server("b", 7002)));
        assert_eq!(slots.primary(b"foo"), Some(&server("asked", 7003)));
        assert_eq!(
            slots.primary(b"hello"),
            None,
            "nobody serves the slots below 4000"
        );
        let nodes: Vec<u16> = slots.nodes().map(|node| node.port).collect();
        assert_eq!(nodes, [7002, 7003, 7005]);
    }

    #[test]
    fn what_is_no_map_of_slots_is_refused() {
        for answer in [
            "*0|",
            "$2|hi|",
            "*1|*2|:0|:5|",
            "*1|*3|:0|:99999|*2|$1|a|:1|",
            "*1|*3|:0|:5|*2|$1|?|:1|",
            "*1|*3|:0|:5|*2|$1|a|:0|",
        ] {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }
}
