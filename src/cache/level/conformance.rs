//! What every level has to do, as a check that a level's own tests run against it.
//!
//! It cannot see deadlines: whoever talks to somebody else also needs a test in which that one is frozen.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Level, LevelError, LevelKey};

/// Longer than any value of this check has to live.
const LONG: Duration = Duration::from_secs(600);
/// A life that ends during the check.
const SHORT: Duration = Duration::from_secs(1);
/// Longest wait for the end of that life, in steps of [`STEP`].
const STEPS: u32 = 500;
const STEP: Duration = Duration::from_millis(20);
/// More than any value of this check has.
const ENOUGH: usize = 4 << 20;
/// Sizes around what levels treat differently.
const SIZES: [usize; 6] = [1, 1024, 4096, 4097, 100_000, 1 << 20];

/// Checks an empty level that is ready for values of 1 MiB.
///
/// # Errors
/// The first duty that it does not do.
pub async fn check(level: &dyn Level) -> Result<(), String> {
    if level.name().is_empty() || level.kind().is_empty() {
        return Err("it has no name or no kind".into());
    }
    no_error("open", level.open().await)?;
    no_error("a second open", level.open().await)?;
    values(level).await?;
    keys(level).await?;
    sizes(level).await?;
    lives(level).await?;
    many_at_once(level).await?;
    cancelled(level).await
}

/// What is put is got byte for byte until it is replaced or removed.
async fn values(level: &dyn Level) -> Result<(), String> {
    let key = key(1);
    expect(level, &key, None, "before anything was put").await?;
    no_error("remove of nothing", level.remove(&key).await)?;
    for size in SIZES {
        let value = pattern(size);
        no_error("put", level.put(&key, value.clone(), LONG).await)?;
        expect(level, &key, Some(&value), "after a put").await?;
    }
    no_error("remove", level.remove(&key).await)?;
    expect(level, &key, None, "after a removal").await?;
    let again = pattern(10);
    no_error("put after remove", level.put(&key, again.clone(), LONG).await)?;
    expect(level, &key, Some(&again), "after a removal and a put").await
}

/// Every byte of a key counts.
async fn keys(level: &dyn Level) -> Result<(), String> {
    let keys: Vec<LevelKey> = (0..=32).map(key_with_one_other_byte).collect();
    for (size, key) in keys.iter().enumerate() {
        no_error("put", level.put(key, pattern(size + 1), LONG).await)?;
    }
    for (size, key) in keys.iter().enumerate() {
        expect(level, key, Some(&pattern(size + 1)), "among keys that are alike").await?;
    }
    Ok(())
}

/// A value that is too large is told by its size, and is still there for who takes more.
async fn sizes(level: &dyn Level) -> Result<(), String> {
    let (key, value) = (key(2), pattern(10_000));
    no_error("put", level.put(&key, value.clone(), LONG).await)?;
    match level.get(&key, value.len() - 1).await {
        Err(LevelError::TooLarge(size)) if size >= value.len() as u64 => {}
        other => return Err(format!("a value over the limit gave {}", shown(&other))),
    }
    match level.get(&key, value.len()).await {
        Ok(Some(got)) if got == value => Ok(()),
        other => Err(format!("a value at the limit gave {}", shown(&other))),
    }
}

/// A value is forgotten at the end of its life.
async fn lives(level: &dyn Level) -> Result<(), String> {
    let (short, long) = (key(3), key(4));
    no_error("put", level.put(&long, pattern(5), LONG).await)?;
    no_error("put", level.put(&short, pattern(6), SHORT).await)?;
    for _ in 0..STEPS {
        if level.get(&short, ENOUGH).await == Ok(None) {
            return expect(level, &long, Some(&pattern(5)), "beside one whose life has ended").await;
        }
        tokio::time::sleep(STEP).await;
    }
    Err("a value outlived its time".into())
}

/// Calls at the same time do not mix.
async fn many_at_once(level: &dyn Level) -> Result<(), String> {
    let calls = (100..164).map(async |n: u8| {
        let (key, value) = (key(n), pattern(usize::from(n) * 100));
        no_error("put", level.put(&key, value.clone(), LONG).await)?;
        expect(level, &key, Some(&value), "among many at once").await
    });
    join_all(calls).await.into_iter().collect()
}

/// A call that is given up leaves the whole value or none, and the level in order.
async fn cancelled(level: &dyn Level) -> Result<(), String> {
    let bystander = (key(5), pattern(3_000));
    no_error("put", level.put(&bystander.0, bystander.1.clone(), LONG).await)?;
    for n in 170..200 {
        let (key, value) = (key(n), pattern(usize::from(n) * 1000));
        begin(level.put(&key, value.clone(), LONG)).await;
        begin(level.get(&bystander.0, ENOUGH)).await;
        match level.get(&key, ENOUGH).await {
            Ok(None) => {}
            Ok(Some(got)) if got == value => {}
            other => return Err(format!("a cancelled put left {}", shown(&other))),
        }
        let (key, value) = &bystander;
        expect(level, key, Some(value), "after a cancelled call").await?;
    }
    Ok(())
}

/// Begins a call and gives it up, unless it is done at once.
async fn begin(call: impl Future) {
    let mut call = Box::pin(call);
    poll_fn(|context| {
        let _given_up = call.as_mut().poll(context).is_ready();
        Poll::Ready(())
    })
    .await;
}

async fn expect(level: &dyn Level, key: &LevelKey, wanted: Option<&Bytes>, when: &str) -> Result<(), String> {
    let got = level.get(key, ENOUGH).await;
    if got.as_ref().is_ok_and(|got| got.as_ref() == wanted) {
        return Ok(());
    }
    let wanted = wanted.map_or_else(|| "nothing".to_owned(), |value| format!("{} bytes", value.len()));
    Err(format!("{when} there were not {wanted} but {}", shown(&got)))
}

fn no_error(call: &str, result: Result<(), LevelError>) -> Result<(), String> {
    result.map_err(|error| format!("{call}: {error}"))
}

fn shown(got: &Result<Option<Bytes>, LevelError>) -> String {
    match got {
        Ok(None) => "nothing".into(),
        Ok(Some(value)) => format!("{} bytes", value.len()),
        Err(error) => format!("an error: {error}"),
    }
}

fn key(n: u8) -> LevelKey {
    LevelKey(*blake3::hash(&[n]).as_bytes())
}

/// With 32, none is another.
fn key_with_one_other_byte(at: usize) -> LevelKey {
    LevelKey(std::array::from_fn(|index| if index == at { 1 } else { 7 }))
}

/// Bytes of every value, none like its neighbour, and of each length others.
fn pattern(size: usize) -> Bytes {
    let byte = |index: usize| (index.wrapping_mul(31) ^ (index >> 8) ^ size) as u8;
    (0..size).map(byte).collect()
}
