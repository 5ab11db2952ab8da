//! Tests of flights: who boards, what they see and how it ends.

mod pressure;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::TRAILER;
use http_body::Body;
use http_body_util::BodyExt;

use super::super::entry::sample;
use super::*;

const KEY: KeyDigest = KeyDigest([1; 32]);
const WINDOW: usize = 1024;
const BEGAN: Beginning = Beginning {
    moment: Moment::elsewhere(1),
    at: Timestamp::from_secs(1),
};
const FAILED: FlightError = FlightError {
    kind: "connect",
    status: 504,
};

fn head(length: Option<usize>) -> Arc<Head> {
    let mut headers = HeaderMap::new();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Arc::new(Head::new(
        &Method::GET,
        StatusCode::OK,
        headers,
        Default::default(),
        false,
    ))
}

fn lead(flights: &Flights) -> Leader {
    match flights.board(&KEY, b"key", BEGAN, |_| false) {
        Ticket::Lead(leader) => leader,
        Ticket::Follow(_) => panic!("there is a flight already"),
    }
}

fn follow(flights: &Flights) -> Follower {
    match flights.board(&KEY, b"key", BEGAN, |_| false) {
        Ticket::Follow(follower) => follower,
        Ticket::Lead(_) => panic!("there is no flight"),
    }
}

fn nothing(_: &[Bytes]) {}

/// The data of a body up to its end, and the error that ended it.
async fn read(mut body: FlightReader) -> (Vec<u8>, Option<FlightError>) {
    let mut data = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => data.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(error) => return (data, Some(error)),
        }
    }
    (data, None)
}

#[tokio::test]
async fn everyone_reads_the_same_bytes_as_they_arrive() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow();
    let mut early = follow(&flights);
    assert!(early.boarded().now_or_never().is_none());
    leader.begin(head(None), WINDOW);
    assert!(matches!(own.boarded().await, Boarded::Streaming(_)));
    assert!(matches!(early.boarded().await, Boarded::Streaming(_)));
    let (mut own, early) = (own.into_reader(), early.into_reader());
    assert!(leader.push("hel".into()).await);
    assert_eq!(own.frame().await.unwrap().unwrap().into_data().unwrap(), "hel");
    assert!(own.frame().now_or_never().is_none(), "the rest has not arrived");

    let late = follow(&flights).into_reader();
    assert!(leader.push("lo".into()).await);
    assert_eq!(leader.readers(), 3);
    assert_eq!(
        leader.finish(|body| assert_eq!(body.concat(), b"hello")),
        Finished::Whole
    );
    assert_eq!(read(own).await, (b"lo".to_vec(), None));
    assert_eq!(read(early).await, (b"hello".to_vec(), None));
    assert_eq!(read(late).await, (b"hello".to_vec(), None));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn nobody_has_a_whole_response_before_it_is_stored_and_nobody_fills_again() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow().into_reader();
    leader.begin(head(Some(5)), WINDOW);
    leader.push("hel".into()).await;
    leader.push("lo".into()).await;
    assert_eq!(own.frame().await.unwrap().unwrap().into_data().unwrap(), "hel");
    assert!(
        own.frame().now_or_never().is_none(),
        "the last chunk waits for the store"
    );
    let finished = leader.finish(|body| {
        assert_eq!(body.concat(), b"hello");
        assert!(own.frame().now_or_never().is_none());
        assert!(
            matches!(flights.board(&KEY, b"key", BEGAN, |_| false), Ticket::Follow(_)),
            "no second fill begins"
        );
    });
    assert_eq!(finished, Finished::Whole);
    assert_eq!(own.frame().await.unwrap().unwrap().into_data().unwrap(), "lo");
    assert!(own.is_end_stream());
    assert!(matches!(
        flights.board(&KEY, b"key", BEGAN, |_| false),
        Ticket::Lead(_)
    ));
}

#[tokio::test]
async fn the_size_is_exact_when_the_head_tells_it() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow().into_reader();
    assert_eq!(own.size_hint().exact(), None);
    leader.begin(head(Some(5)), WINDOW);
    assert_eq!(own.size_hint().exact(), Some(5));
    leader.push("hel".into()).await;
    own.frame().await.unwrap().unwrap();
    assert_eq!(own.size_hint().exact(), Some(2));
}

#[test]
fn only_one_well_formed_length_counts() {
    let length = |method: &Method, status: u16, values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        body_len(method, StatusCode::from_u16(status).unwrap(), &headers)
    };
    assert_eq!(length(&Method::GET, 200, &["12"]), Some(12));
    for odd in [
        &[][..],
        &[""],
        &["+1"],
        &["1, 1"],
        &["1", "1"],
        &["99999999999999999999999"],
    ] {
        assert_eq!(length(&Method::GET, 200, odd), None, "{odd:?}");
    }
    assert_eq!(length(&Method::HEAD, 200, &["12"]), Some(0));
    assert_eq!(length(&Method::GET, 304, &["12"]), Some(0));
}

#[tokio::test]
async fn a_body_of_the_wrong_length_never_ends_cleanly_and_is_not_stored() {
    for pushed in [&["hel"][..], &["hel", "lo", "!"], &["hello!"], &[]] {
        let flights = Flights::new();
        let leader = lead(&flights);
        let own = leader.follow().into_reader();
        leader.begin(head(Some(5)), WINDOW);
        for chunk in pushed {
            leader.push(Bytes::from_static(chunk.as_bytes())).await;
        }
        assert_eq!(leader.finish(|_| panic!("stored")), Finished::WrongLength);
        let (data, error) = read(own).await;
        assert!(
            data.len() < 5 && error == Some(FlightError::WRONG_LENGTH),
            "{pushed:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_does_not_wait_for_readers() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let own = leader.follow().into_reader();
    leader.begin(head(Some(WINDOW)), WINDOW);
    let chunk = Bytes::from(vec![b'x'; WINDOW]);
    for _ in 0..3 {
        assert!(leader.push(chunk.clone()).now_or_never().is_some());
    }
    assert_eq!(leader.finish(|_| panic!("stored")), Finished::WrongLength);
    assert_eq!(read(own).await, (Vec::new(), Some(FlightError::WRONG_LENGTH)));
}

#[tokio::test]
async fn who_comes_after_the_beginning_is_gone_reads_nothing() {
    let flights = Flights::new();
    let leader = lead(&flights);
    leader.begin_alone(head(None));
    assert!(!leader.push("lost".into()).await);
    assert_eq!(
        read(leader.follow().into_reader()).await,
        (Vec::new(), Some(FlightError::NO_BODY))
    );
}

#[tokio::test]
async fn a_failure_before_the_head_is_shared() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut follower = follow(&flights);
    leader.fail(FAILED);
    assert!(matches!(follower.boarded().await, Boarded::Failed(FAILED)));
    assert!(
        matches!(flights.board(&KEY, b"key", BEGAN, |_| false), Ticket::Lead(_)),
        "a new request tries again"
    );
}

#[tokio::test]
async fn a_failure_after_the_head_ends_every_body_with_an_error() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let follower = follow(&flights);
    leader.begin(head(None), WINDOW);
    leader.push("part".into()).await;
    leader.fail(FAILED);
    assert_eq!(
        read(follower.into_reader()).await,
        (b"part".to_vec(), Some(FAILED))
    );
}

#[tokio::test]
async fn a_lost_leader_is_replaced_by_one_of_those_who_wait() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut waiting = [follow(&flights), follow(&flights)];
    drop(leader);
    for follower in &mut waiting {
        assert!(matches!(follower.boarded().await, Boarded::Lost));
    }
    let next = lead(&flights);
    let second = follow(&flights);
    next.begin(head(None), WINDOW);
    next.push("x".into()).await;
    drop(next);
    assert_eq!(
        read(second.into_reader()).await,
        (b"x".to_vec(), Some(FlightError::LOST))
    );
}

#[tokio::test]
async fn a_declined_flight_is_joined_by_nobody() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut follower = follow(&flights);
    leader.decline();
    assert!(matches!(follower.boarded().await, Boarded::Declined));
    assert_eq!(read(follower.into_reader()).await.1, Some(FlightError::NO_BODY));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn an_entry_can_end_a_flight() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut follower = follow(&flights);
    let entry = sample::entry("a:GET h/", &[], 0);
    leader.publish(Arc::clone(&entry), Grounds::Confirmed(StatusCode::NOT_MODIFIED));
    assert!(
        matches!(follower.boarded().await, Boarded::Entry(published, Grounds::Confirmed(StatusCode::NOT_MODIFIED)) if Arc::ptr_eq(&published, &entry))
    );
    assert!(flights.is_empty());
}

#[tokio::test]
async fn trailers_come_last() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let mut own = leader.follow().into_reader();
    leader.begin(head(None), WINDOW);
    leader.push("x".into()).await;
    let mut trailers = HeaderMap::new();
    trailers.insert(TRAILER, HeaderValue::from_static("yes"));
    leader.finish_with_trailers(trailers.clone(), nothing);
    assert!(own.frame().await.unwrap().unwrap().is_data());
    assert!(!own.is_end_stream());
    assert_eq!(
        own.frame().await.unwrap().unwrap().into_trailers().unwrap(),
        trailers
    );
    assert!(own.frame().await.is_none() && own.is_end_stream());
}

#[test]
fn another_key_with_the_same_digest_flies_alone() {
    let flights = Flights::new();
    let leader = lead(&flights);
    let Ticket::Lead(other) = flights.board(&KEY, b"another", BEGAN, |_| false) else {
        panic!("joined")
    };
    assert_eq!(flights.len(), 1);
    drop(other);
    assert_eq!(flights.len(), 1, "the first flight is still there");
    drop(leader);
    assert!(flights.is_empty());
}

#[test]
fn two_hundred_concurrent_requests_have_one_leader() {
    for _ in 0..20 {
        let flights = Flights::new();
        let (leaders, start) = (AtomicUsize::new(0), std::sync::Barrier::new(200));
        let tickets: Vec<Ticket> = std::thread::scope(|scope| {
            let board = || {
                start.wait();
                flights.board(&KEY, b"key", BEGAN, |_| false)
            };
            let threads: Vec<_> = (0..200).map(|_| scope.spawn(board)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ticket in &tickets {
            if matches!(ticket, Ticket::Lead(_)) {
                leaders.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert_eq!(leaders.into_inner(), 1);
    }
}

#[test]
fn an_outdated_flight_is_left_to_those_aboard() {
    let flights = Flights::new();
    let old = lead(&flights);
    let aboard = follow(&flights);
    let Ticket::Lead(new) = flights.board(&KEY, b"key", BEGAN, |began| began == BEGAN) else {
        panic!("joined an outdated flight");
    };
    old.decline();
    drop(aboard);
    assert_eq!(
        flights.len(),
        1,
        "the end of the old one leaves the new one alone"
    );
    assert!(matches!(
        flights.board(&KEY, b"key", BEGAN, |_| false),
        Ticket::Follow(_)
    ));
    drop(new);
}
