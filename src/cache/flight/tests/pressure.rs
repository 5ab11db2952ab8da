//! Tests of back-pressure, of readers who leave, and of wake-ups.

use std::time::Duration;

use super::*;
use crate::tasks::Tasks;

#[tokio::test]
async fn beyond_the_window_nobody_joins_and_the_slowest_reader_sets_the_pace() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let (mut fast, mut slow) = (leader.follow().into_reader(), follow(&flights).into_reader());
    leader.begin(head(None), WINDOW);
    let half = Bytes::from(vec![b'x'; WINDOW / 2]);
    assert!(leader.push(half.clone()).await && leader.push(half.clone()).await);
    assert_eq!(flights.len(), 1, "all of it is still kept");

    let mut third = Box::pin(leader.push(half.clone()));
    assert!(third.as_mut().now_or_never().is_none(), "nobody has read");
    assert!(flights.is_empty() && matches!(flights.board(&KEY, b"key", BEGAN, |_| false), Ticket::Lead(_)));
    fast.frame().await.unwrap().unwrap();
    assert!(third.as_mut().now_or_never().is_none(), "the slow one has not");
    slow.frame().await.unwrap().unwrap();
    assert!(third.await);

    let mut fourth = Box::pin(leader.push(half));
    assert!(fourth.as_mut().now_or_never().is_none());
    drop(slow);
    assert!(
        fourth.as_mut().now_or_never().is_none(),
        "the fast one has two to read"
    );
    fast.frame().await.unwrap().unwrap();
    assert!(fourth.await);
    assert_eq!(leader.finish(|_| panic!("stored")), Finished::NotKept);
    assert_eq!(read(fast).await.0.len(), WINDOW);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_holds_up_the_others_for_a_second_is_left_behind() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let (mut fast, slow) = (leader.follow().into_reader(), follow(&flights).into_reader());
    leader.begin(head(None), WINDOW);
    let chunk = Bytes::from(vec![b'x'; WINDOW]);
    assert!(leader.push(chunk.clone()).await);
    let mut second = Box::pin(leader.push(chunk.clone()));
    let soon = tokio::time::timeout(Duration::from_secs(600), second.as_mut());
    assert!(soon.await.is_err(), "nobody waits for anything: there is time");
    fast.frame().await.unwrap().unwrap();
    let held_up = tokio::time::Instant::now();
    assert!(second.await, "the slow one is gone");
    assert!(held_up.elapsed() <= Duration::from_millis(1_100));
    assert_eq!(leader.readers(), 1);
    fast.frame().await.unwrap().unwrap();

    // Who was slow learns that this is not the end.
    assert_eq!(read(slow).await, (Vec::new(), Some(FlightError::LEFT_BEHIND)));
    assert!(leader.push(chunk).await);
    assert_eq!(leader.finish(|_| panic!("stored")), Finished::NotKept);
    assert_eq!(read(fast).await, (vec![b'x'; WINDOW], None));
}

#[tokio::test(start_paused = true)]
async fn one_reader_alone_may_be_as_slow_as_it_likes() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow().into_reader();
    leader.begin(head(None), WINDOW);
    let chunk = Bytes::from(vec![b'x'; WINDOW]);
    assert!(leader.push(chunk.clone()).await);
    let mut second = Box::pin(leader.push(chunk));
    let hour = tokio::time::timeout(Duration::from_secs(3600), second.as_mut());
    assert!(hour.await.is_err());
    own.frame().await.unwrap().unwrap();
    assert!(second.await);
    assert_eq!(leader.finish(|_| panic!("stored")), Finished::NotKept);
    assert_eq!(read(own).await, (vec![b'x'; WINDOW], None));
}

#[tokio::test]
async fn a_chunk_larger_than_the_window_passes() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow().into_reader();
    leader.begin(head(None), WINDOW);
    let large = Bytes::from(vec![b'x'; WINDOW * 3]);
    assert!(leader.push(large.clone()).now_or_never().unwrap());
    let mut next = Box::pin(leader.push(large));
    assert!(next.as_mut().now_or_never().is_none());
    own.frame().await.unwrap().unwrap();
    assert!(next.await);
    drop(own);
    assert!(!leader.push("x".into()).await, "nobody reads and nothing is kept");
}

#[tokio::test]
async fn the_leader_learns_that_the_last_reader_left() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let (own, other) = (leader.follow(), follow(&flights));
    let mut abandoned = Box::pin(leader.abandoned());
    assert!(abandoned.as_mut().now_or_never().is_none());
    drop(own);
    assert!(abandoned.as_mut().now_or_never().is_none());
    drop(other.into_reader());
    abandoned.await;
    leader.begin(head(None), WINDOW);
    assert!(leader.push("kept for the store".into()).await);
}

#[tokio::test]
async fn a_response_for_the_leader_alone_streams_with_back_pressure() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let (mut own, mut other) = (leader.follow().into_reader(), follow(&flights));
    leader.begin_alone(head(None));
    assert!(flights.is_empty());
    assert!(matches!(other.boarded().await, Boarded::Declined));
    assert_eq!(leader.readers(), 1, "the declined one does not count");
    let chunk = Bytes::from(vec![0; 200 * 1024]);
    assert!(leader.push(chunk.clone()).await);
    let mut blocked = Box::pin(leader.push(chunk));
    assert!(blocked.as_mut().now_or_never().is_none());
    own.frame().await.unwrap().unwrap();
    assert!(blocked.await);
    assert_eq!(leader.finish(|_| panic!("stored")), Finished::NotKept);
    assert_eq!(read(own).await.0.len(), 200 * 1024);
}

/// A thousand readers on several threads, each chunk waking those who wait: none may be forgotten.
async fn thousand_readers(window: usize) {
    let (flights, tasks) = (Flights::new(), Tasks::new());
    let leader = lead(&flights);
    let wrong = Arc::new(AtomicUsize::new(0));
    for _ in 0..1_000 {
        let (mut follower, wrong) = (follow(&flights), Arc::clone(&wrong));
        tasks.spawn("reader", async move {
            let boarded = follower.boarded().await;
            let (data, error) = read(follower.into_reader()).await;
            let expected: Vec<u8> = (0..50_u8).flat_map(|n| [n; 100]).collect();
            if !matches!(boarded, Boarded::Streaming(_)) || data != expected || error.is_some() {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.spawn("fill", async move {
        leader.begin(head(Some(5_000)), window);
        for n in 0..50 {
            leader.push(Bytes::from(vec![n; 100])).await;
            tokio::task::yield_now().await;
        }
        leader.finish(nothing);
    });
    assert!(tasks.drained(Duration::from_secs(60)).await, "a wake-up was lost");
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_with_a_thousand_readers() {
    thousand_readers(1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_under_back_pressure() {
    thousand_readers(150).await;
}
