//! Delivery to receivers.

use aws_lc_rs::hmac;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::config::alerts::{Form, Signing};
use crate::config::secret::Secret;
use crate::insight::alert::machine::INTERVAL;
use crate::insight::alert::{Desk, store};
use crate::tasks::Tasks;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A request: its head, and its body.
type Received = (String, String);

/// Answers requests with these statuses, the last one again and again, and gives what was asked.
async fn receiver(tasks: &Tasks, statuses: Vec<u16>) -> (String, mpsc::Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel(100);
    tasks.spawn("receiver", async move {
        let mut statuses = statuses.into_iter().peekable();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8(bytes.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let head = head.to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() == length {
                    break (head.clone(), body.to_owned());
                }
            };
            let status = match statuses.len() {
                1 => *statuses.peek().unwrap(),
                _ => statuses.next().unwrap(),
            };
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send((head, body)).await.unwrap();
        }
    });
    (url, received)
}

fn errors() -> Script<impl Fn(Metric, i64) -> Option<f64> + Send + Sync> {
    Script(|_, second: i64| Some(f64::from(u8::from((100..200).contains(&second)))))
}

/// Evaluates until `second`.
async fn run(desk: &Desk, clock: &Clock, second: u64) {
    while clock.now() < at(second) {
        desk.tick(&errors()).await;
        clock.advance(INTERVAL);
    }
}

fn deliver(desk: &Arc<Desk>, tasks: &Tasks) {
    desk.start(Arc::new(Script(|_, _| None)), tasks);
}

fn signed() -> Form {
    Form::Webhook(Some(Signing {
        key: Secret::new(KEY.to_vec()),
        file: "/key".into(),
    }))
}

/// The body, if its signature is right.
fn verified((head, body): &Received) -> Value {
    let signature = head
        .split("outrigger-signature: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let (seconds, code) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let signed = format!("{seconds}.{body}");
    hmac::verify(&key, signed.as_bytes(), &hex::decode(code).unwrap()).unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_webhook_is_signed_tried_again_and_told_once_per_change() {
    let tasks = Tasks::new();
    let (url, mut received) = receiver(&tasks, vec![503, 200]).await;
    let clock = Clock::manual(at(0));
    let dir = tempfile::tempdir().unwrap();
    let config = with_receiver(
        config(vec![rule("errors", "error_ratio(10s) > 0.5")]),
        signed(),
        &url,
    );
    let desk = Desk::open(Arc::clone(&config), Some(dir.path().to_owned()), clock.clone()).unwrap();
    run(&desk, &clock, 150).await;
    deliver(&desk, &tasks);
    let first = verified(&received.recv().await.unwrap());
    assert_eq!(
        (
            &first["state"],
            &first["rule"],
            &first["severity"],
            &first["started_at"]
        ),
        (
            &"firing".into(),
            &"errors".into(),
            &"WARNING".into(),
            &"2023-11-14T22:15:10Z".into()
        )
    );
    assert_eq!(first["labels"]["alertname"], "errors");
    assert_eq!(first["summary"], "error_ratio(10s) > 0.5");
    let again = verified(&received.recv().await.unwrap());
    assert_eq!(again, first, "the first attempt was answered with 503");
    let is_waiting = || {
        let book = store::load(dir.path()).unwrap();
        !book.waiting["ops"].is_empty()
    };
    while is_waiting() {
        tokio::task::yield_now().await;
    }
    tasks.cancel();
    assert!(tasks.drained(Duration::from_secs(5)).await);

    // Another process goes on, without telling it again.
    let tasks = Tasks::new();
    let (url, mut received) = receiver(&tasks, vec![200]).await;
    let config = with_receiver((*config).clone(), signed(), &url);
    let restarted = Desk::open(config, Some(dir.path().to_owned()), clock.clone()).unwrap();
    deliver(&restarted, &tasks);
    run(&restarted, &clock, 300).await;
    let last = verified(&received.recv().await.unwrap());
    assert_eq!((&last["state"], &last["id"]), (&"resolved".into(), &first["id"]));
    assert!(received.try_recv().is_err());
    tasks.cancel();
}

#[tokio::test]
async fn what_a_rule_left_open_before_a_restart_without_it_is_ended() {
    let tasks = Tasks::new();
    let (url, mut received) = receiver(&tasks, vec![200]).await;
    let clock = Clock::manual(at(0));
    let dir = tempfile::tempdir().unwrap();
    let config = with_receiver(
        config(vec![rule("errors", "error_ratio(10s) > 0.5")]),
        signed(),
        &url,
    );
    let desk = Desk::open(Arc::clone(&config), Some(dir.path().to_owned()), clock.clone()).unwrap();
    run(&desk, &clock, 150).await;
    let without = with_receiver(self::config(Vec::new()), signed(), &url);
    let restarted = Desk::open(without, Some(dir.path().to_owned()), clock.clone()).unwrap();
    deliver(&restarted, &tasks);
    let mut states = Vec::new();
    for _ in 0..2 {
        states.push(verified(&received.recv().await.unwrap())["state"].clone());
    }
    assert_eq!(states, ["firing", "resolved"]);
    tasks.cancel();
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_does_not_block_the_rest() {
    let tasks = Tasks::new();
    let (url, mut received) = receiver(&tasks, vec![400, 200]).await;
    let clock = Clock::manual(at(0));
    let config = with_receiver(
        config(vec![rule("errors", "error_ratio(10s) > 0.5")]),
        Form::Slack,
        &url,
    );
    let desk = Desk::open(config, None, clock.clone()).unwrap();
    run(&desk, &clock, 300).await;
    deliver(&desk, &tasks);
    let (_, first) = received.recv().await.unwrap();
    assert!(
        first.contains("*errors* WARNING: error_ratio(10s) &gt; 0.5"),
        "{first}"
    );
    let (head, second) = received.recv().await.unwrap();
    assert!(second.contains("resolved"), "{second}");
    assert!(!head.contains("outrigger-signature"), "{head}");
    tasks.cancel();
}

#[tokio::test]
async fn alertmanager_gets_its_own_form_and_a_test_goes_to_the_rules_receivers() {
    let tasks = Tasks::new();
    let (url, mut received) = receiver(&tasks, vec![200]).await;
    let clock = Clock::manual(at(0));
    let config = with_receiver(
        config(vec![rule("errors", "error_ratio{route=r}(10s) > 0.5")]),
        Form::Alertmanager,
        &url,
    );
    let desk = Desk::open(config, None, clock.clone()).unwrap();
    let answers = desk.test("errors").await.unwrap();
    assert!(
        matches!(answers.as_slice(), [(name, Ok(()))] if &**name == "ops"),
        "{answers:?}"
    );
    assert!(desk.test("nothing").await.is_none());
    let (head, body) = received.recv().await.unwrap();
    assert!(
        head.starts_with("post /hook/api/v2/alerts http/1.1\r\n"),
        "{head}"
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    let labels = &body[0]["labels"];
    assert_eq!(
        (
            &labels["alertname"],
            &labels["severity"],
            &labels["route"],
            &labels["test"]
        ),
        (&"errors".into(), &"WARNING".into(), &"r".into(), &"true".into())
    );
    assert_eq!(body[0]["startsAt"], "2023-11-14T22:13:20Z");
    assert_eq!(body[0]["endsAt"], "2023-11-14T22:17:20Z");
    tasks.cancel();
}
