//! The place that replicas share, in Redis: one script per call, so that each is atomic.
//!
//! All keys have one hash tag, so that a cluster keeps them on one node:
//!
//! | key | what |
//! |---|---|
//! | `<prefix>:{purge}:log` | stream of the records; an id is a position and `-0` |
//! | `<prefix>:{purge}:meta` | hash: the incarnation, where it began, the last position given |
//! | `<prefix>:{purge}:changed` | sorted set: buckets of invalidations by their last position; and the incarnation's mark |
//! | `<prefix>:{purge}:replicas` | hash: what each replica has applied, and until when that is of interest |
//! | `<prefix>:{purge}:placed` | hash: the position of a record, so that none gets a second one |
//! | `<prefix>:{purge}:wake` | stream of one entry: the last position, to wait for |
//!
//! An incarnation is whole when the first three are there and agree; whatever a server evicts or loses shows.

use std::time::Duration;

use redis::{Cmd, Value};

use super::super::level::LevelError;
use super::super::purge::{Batch, Id, MAX_RECORDS, Shipped};
use super::super::redis::{DedicatedConnection, RedisClient};
use super::protocol::{Answer, Call, Followed, barrier, decode, encode};

/// How long one call may take: nobody waits for it in the data plane.
const LIMIT: Duration = Duration::from_secs(1);

/// How much the place keeps, and tells at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Records that are kept.
    pub(super) records: usize,
    /// Records of one answer.
    pub(super) page: usize,
    /// Replicas that are known.
    pub(super) replicas: usize,
    /// How long a replica that is not heard of counts as one.
    pub(super) lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: MAX_RECORDS,
            page: 1_000,
            replicas: 1_000,
            lifetime: Duration::from_secs(10),
        }
    }
}

/// Common to all scripts: `whole` is the name of the incarnation, or nothing.
const HEAD: &str = r"
local log, meta, changed, replicas, placed, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local state = redis.call('HMGET', meta, 'incarnation', 'began', 'last')
local whole = state[1] and state[2] and state[3] and redis.call('EXISTS', log) == 1
  and redis.call('ZSCORE', changed, 'of:' .. state[1]) and state[1]
local last = tonumber(state[3] or '0')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function text(position) return string.format('%.0f', position) end
local function advance()
  last = math.max(now, last + 1)
  return text(last)
end
local function show()
  redis.call('HSET', meta, 'last', text(last))
  redis.call('XADD', wake, 'MAXLEN', '1', text(last) .. '-0', 'p', '')
end
";

/// `ARGV`: the incarnation to replace or nothing, the new name, the position that it begins after, the first record.
const BEGIN: &str = r"
if whole and whole ~= ARGV[1] then return {'incarnation', state[1], state[2]} end
if not whole then redis.call('DEL', log, meta, changed, placed, wake) end
redis.call('DEL', replicas)
last = math.max(last, tonumber(ARGV[3]))
local began = advance()
redis.call('XADD', log, began .. '-0', 'i', ARGV[2], 'd', ARGV[4])
if whole then redis.call('ZREM', changed, 'of:' .. whole) end
redis.call('ZADD', changed, '0', 'of:' .. ARGV[2])
redis.call('HSET', meta, 'incarnation', ARGV[2], 'began', began)
show()
return {'incarnation', ARGV[2], began}
";

/// `ARGV`: the incarnation, the anchor's position and id or nothing, the position, the replica, its lifetime in
/// milliseconds, the most records, the most replicas.
const FOLLOW: &str = r"
if not whole then return {'lost'} end
if whole ~= ARGV[1] then return {'incarnation', state[1], state[2]} end
local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', '1')
local first = oldest[1] and string.match(oldest[1][1], '^(%d+)') or '0'
local from, gap = '-', '0'
if ARGV[2] ~= '' then
  local there = redis.call('XRANGE', log, ARGV[2] .. '-0', ARGV[2] .. '-0')
  if there[1] and there[1][2][2] == ARGV[3] then from = ARGV[2] .. '-1'
  elseif tonumber(first) > tonumber(ARGV[2]) then gap = '1'
  else return {'rolled back'} end
end
if last < tonumber(ARGV[4]) then return {'rolled back'} end
local records = redis.call('XRANGE', log, from, '+', 'COUNT', ARGV[7])
local fresh = redis.call('ZRANGEBYSCORE', changed, '(' .. ARGV[4], '+inf', 'WITHSCORES')
local millis = math.floor(now / 1000)
-- A server without memory to spare may refuse this; what replicas have purged is read all the same.
redis.pcall('HSET', replicas, ARGV[5], ARGV[4] .. ' ' .. text(millis + tonumber(ARGV[6])))
redis.pcall('PEXPIRE', replicas, ARGV[6])
local known, count = {}, 0
local all = redis.call('HGETALL', replicas)
for at = 1, #all, 2 do
  local position, expires = string.match(all[at + 1], '^(%d+) (%d+)$')
  if not expires or tonumber(expires) < millis or count >= tonumber(ARGV[8]) then
    redis.call('HDEL', replicas, all[at])
  else
    count = count + 1
    known[#known + 1] = all[at]
    known[#known + 1] = position
  end
end
local complete = #records < tonumber(ARGV[7])
return {'followed', first, gap, complete and text(last) or '', records, fresh, known}
";

/// `ARGV`: the incarnation, the most records that are kept, their longest life in microseconds, the number of records,
/// then each one's id and text, then buckets.
const PUBLISH: &str = r"
if not whole then return {'lost'} end
if whole ~= ARGV[1] then return {'incarnation', state[1], state[2]} end
local before, at, most, places = last, 5, tonumber(ARGV[2]), {}
for _ = 1, tonumber(ARGV[4]) do
  local place = redis.call('HGET', placed, ARGV[at])
  if not place then
    place = advance()
    redis.call('XADD', log, place .. '-0', 'i', ARGV[at], 'd', ARGV[at + 1])
    redis.call('HSET', placed, ARGV[at], place)
  end
  places[#places + 1] = place
  at = at + 2
end
if last > before then
  redis.call('XTRIM', log, 'MAXLEN', ARGV[2])
  redis.call('XTRIM', log, 'MINID', text(now - tonumber(ARGV[3])))
  if redis.call('HLEN', placed) > 2 * most then redis.call('DEL', placed) end
end
if at <= #ARGV then
  local position = advance()
  for bucket = at, #ARGV do redis.call('ZADD', changed, position, ARGV[bucket]) end
end
if last > before then show() end
return {'published', text(last), places}
";

/// The place, as one replica sees it.
#[derive(Debug)]
pub(super) struct Place {
    client: RedisClient,
    keys: [String; 6],
    /// The longest life of a record.
    retention: Duration,
    limits: Limits,
}

impl Place {
    /// The place that `client` reaches.
    pub(super) fn new(client: RedisClient, retention: Duration, limits: Limits) -> Self {
        let prefix = &client.config().prefix;
        let keys = ["log", "meta", "changed", "replicas", "placed", "wake"]
            .map(|name| format!("{prefix}:{{purge}}:{name}"));
        Self {
            client,
            keys,
            retention,
            limits,
        }
    }

    /// What reaches it.
    pub(super) fn client(&self) -> &RedisClient {
        &self.client
    }

    /// Does what `replica` asks. An error leaves open whether it was done.
    pub(super) async fn ask(&self, replica: Id, call: &Call) -> Result<Answer, LevelError> {
        let command = self.command(replica, call);
        let [log, ..] = &self.keys;
        let value: Value = self.client.call_within(LIMIT, log.as_bytes(), &command).await?;
        parse(&value).ok_or_else(|| LevelError::Refused("the script's answer makes no sense".into()))
    }

    /// A connection to wait on.
    pub(super) async fn waiting_room(&self) -> Result<DedicatedConnection, LevelError> {
        let [log, ..] = &self.keys;
        self.client.dedicated(log.as_bytes()).await
    }

    /// Waits until a position after `position` is given, at most about `limit`; whether there is one.
    pub(super) async fn wait(
        &self,
        connection: &mut DedicatedConnection,
        position: u64,
        limit: Duration,
    ) -> Result<bool, LevelError> {
        let [.., wake] = &self.keys;
        let mut command = redis::cmd("XREAD");
        command
            .arg("BLOCK")
            .arg(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
            .arg("STREAMS")
            .arg(wake)
            .arg(format!("{position}-0"));
        let entries: Value = connection.call(limit + LIMIT, &command).await?;
        Ok(entries != Value::Nil)
    }

    fn command(&self, replica: Id, call: &Call) -> Cmd {
        let body = match call {
            Call::Begin { .. } => BEGIN,
            Call::Follow { .. } => FOLLOW,
            Call::Publish { .. } => PUBLISH,
        };
        let mut command = redis::cmd("EVAL");
        command.arg([HEAD, body].concat()).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        let name = |id: Option<Id>| id.map(Id::to_hex).unwrap_or_default();
        match call {
            Call::Begin {
                replaces,
                incarnation,
                after,
            } => {
                command.arg(name(*replaces)).arg(incarnation.to_hex());
                command.arg(*after).arg(barrier());
            }
            Call::Follow {
                incarnation,
                anchor,
                position,
            } => {
                command.arg(name(*incarnation));
                command.arg(
                    anchor
                        .map(|anchor| anchor.position.to_string())
                        .unwrap_or_default(),
                );
                command.arg(name(anchor.map(|anchor| anchor.id)));
                command.arg(*position).arg(replica.to_hex());
                command.arg(u64::try_from(self.limits.lifetime.as_millis()).unwrap_or(u64::MAX));
                command.arg(self.limits.page).arg(self.limits.replicas);
            }
            Call::Publish {
                incarnation,
                records,
                changed,
            } => {
                command.arg(incarnation.to_hex()).arg(self.limits.records);
                command.arg(u64::try_from(self.retention.as_micros()).unwrap_or(u64::MAX));
                command.arg(records.len());
                for record in records {
                    command.arg(record.id.to_hex());
                    command.arg(encode(&record.selector, record.mode));
                }
                for bucket in changed {
                    command.arg(*bucket);
                }
            }
        }
        command
    }
}

/// What a script's answer says; none for one that no script gives.
fn parse(value: &Value) -> Option<Answer> {
    let parts = array(value)?;
    Some(match (bytes(parts.first()?)?, parts.get(1..)?) {
        (b"lost", _) => Answer::Lost,
        (b"rolled back", _) => Answer::RolledBack,
        (b"incarnation", [id, began]) => Answer::Incarnation {
            id: Id::from_hex(bytes(id)?)?,
            began: number(began)?,
        },
        (b"published", [last, places]) => Answer::Published {
            last: number(last)?,
            places: array(places)?.iter().map(number).collect::<Option<_>>()?,
        },
        (b"followed", [first, gap, end, records, changed, replicas]) => Answer::Followed(Followed {
            batch: Batch {
                first: number(first)?,
                gap: bytes(gap)? == b"1",
                end: match bytes(end)? {
                    b"" => None,
                    _ => Some(number(end)?),
                },
                records: array(records)?.iter().map(record).collect::<Option<_>>()?,
            },
            changed: pairs(changed)?
                .map(|(bucket, position)| Some((u16::try_from(number(bucket)?).ok()?, number(position)?)))
                .collect::<Option<_>>()?,
            replicas: pairs(replicas)?
                .map(|(id, position)| Some((Id::from_hex(bytes(id)?)?, number(position)?)))
                .collect::<Option<_>>()?,
        }),
        _ => return None,
    })
}

/// An entry of the stream: its id, and the two fields that [`PUBLISH`] gives it.
fn record(entry: &Value) -> Option<Shipped> {
    let [id, fields] = array(entry)? else { return None };
    let position = bytes(id)?.split(|byte| *byte == b'-').next()?;
    let [_, id, _, text] = array(fields)? else {
        return None;
    };
    let (mode, selector) = decode(bytes(text)?);
    Some(Shipped {
        id: Id::from_hex(bytes(id)?)?,
        position: std::str::from_utf8(position).ok()?.parse().ok()?,
        selector,
        mode,
    })
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn pairs(value: &Value) -> Option<impl Iterator<Item = (&Value, &Value)>> {
    let (pairs, rest) = array(value)?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[first, second]| (first, second)))
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    std::str::from_utf8(bytes(value)?).ok()?.parse().ok()
}
