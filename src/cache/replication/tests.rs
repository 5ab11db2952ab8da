//! The scripts on a real server, held against the model.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::super::purge::{Anchor, Id, Mode, Record, Selector};
use super::super::redis::RedisClient;
use super::model::Model;
use super::place::{Limits, Place};
use super::protocol::{Answer, Call};
use crate::clock::Timestamp;
use crate::config::{RedisCredentials, RedisLevel, RedisMode, RedisServer};
use crate::tasks::Tasks;

/// A server of its own; it ends with the value.
struct Server {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Server {
    fn start() -> Self {
        for _ in 0..20 {
            let dir = TempDir::new().unwrap();
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .arg("--dir")
                .arg(dir.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            for _ in 0..1_000 {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self {
                        child,
                        port,
                        _dir: dir,
                    };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().ok();
            child.wait().ok();
        }
        panic!("redis-server does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn client(server: &Server, tasks: &Tasks) -> RedisClient {
    let level = RedisLevel {
        name: "fleet".into(),
        servers: vec![RedisServer {
            host: "127.0.0.1".into(),
            port: server.port,
        }],
        database: 0,
        mode: RedisMode::Single,
        prefix: "hub".into(),
        timeout: Duration::from_secs(5),
        credentials: RedisCredentials::default(),
        tls: None,
        max_ttl: Duration::from_secs(60),
    };
    RedisClient::new(&level, tasks).unwrap()
}

async fn raw(client: &RedisClient, words: &[&str]) -> redis::Value {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    loop {
        // The first calls come while the connection is made.
        match client.call(b"hub:{purge}:log", &command).await {
            Ok(value) => return value,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn record(number: u64, selector: Selector) -> Record {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Record::unplaced(Id(id), Timestamp::default(), selector, Mode::Hard)
}

fn replica(number: u8) -> Id {
    Id([number; 16])
}

/// Later than any time, so that positions follow from each other.
const AFTER: u64 = 8_000_000_000_000_000;

/// Numbers that look random, the same on every run.
fn draws() -> impl FnMut(u64) -> u64 {
    let mut state = 7_u64;
    move |limit| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    }
}

/// What replicas ask, and what they might if they were mad.
struct Asking {
    number: u64,
    incarnations: Vec<Id>,
}

impl Asking {
    fn call(&mut self, step: u64, model: &Model, draw: &mut impl FnMut(u64) -> u64) -> Call {
        let incarnation = match (draw(8), model.incarnation) {
            (0, _) => self.incarnations[draw(self.incarnations.len() as u64) as usize],
            (_, Some((id, _))) => id,
            (_, None) => replica(201),
        };
        match draw(20) {
            0 => {
                self.number += 1;
                let name = record(self.number, Selector::All).id;
                self.incarnations.push(name);
                Call::Begin {
                    replaces: (draw(2) == 0).then_some(incarnation),
                    incarnation: name,
                    after: AFTER + draw(50) + step,
                }
            }
            1..10 => {
                let mut records = Vec::new();
                for _ in 0..draw(4) {
                    // Sometimes one that may have a place.
                    self.number += draw(4);
                    let at = self.number.saturating_sub(draw(3));
                    records.push(record(at, Selector::Tag(format!("t {at} \"\n"))));
                }
                Call::Publish {
                    incarnation,
                    records,
                    changed: (0..draw(3)).map(|_| u16::try_from(draw(9)).unwrap()).collect(),
                }
            }
            _ => {
                let anchor = anchor(model, draw);
                Call::Follow {
                    incarnation: (draw(30) > 0).then_some(incarnation),
                    anchor,
                    position: anchor.map_or(0, |anchor| anchor.position + draw(3)),
                }
            }
        }
    }
}

/// One that is there, or nearly.
fn anchor(model: &Model, draw: &mut impl FnMut(u64) -> u64) -> Option<Anchor> {
    let there = model.log.len() as u64;
    if there == 0 || draw(6) == 0 {
        return None;
    }
    let (position, (id, _)) = model.log.iter().nth(draw(there) as usize)?;
    let (id, position) = (*id, *position);
    Some(match draw(12) {
        0 => Anchor {
            id: replica(9),
            position,
        },
        1 => Anchor {
            id,
            position: position + 1,
        },
        2 => Anchor {
            id,
            position: position - draw(40),
        },
        _ => Anchor { id, position },
    })
}

#[tokio::test]
async fn the_scripts_do_what_the_model_does() {
    let (server, tasks) = (Server::start(), Tasks::new());
    let client = client(&server, &tasks);
    raw(&client, &["PING"]).await;
    let limits = Limits {
        records: 12,
        page: 4,
        ..Limits::default()
    };
    let place = Place::new(client.clone(), Duration::from_secs(3600), limits);
    let (mut model, mut draw) = (Model::new(0, 12, 4), draws());
    let mut asking = Asking {
        number: 0,
        incarnations: vec![replica(200)],
    };
    let mut kinds = BTreeSet::new();
    for step in 0..2_000_u64 {
        if draw(400) == 0 {
            raw(&client, &["FLUSHALL"]).await;
            model.lose();
        }
        let call = asking.call(step, &model, &mut draw);
        let who = replica(u8::try_from(draw(3)).unwrap());
        let (mut found, expected) = (place.ask(who, &call).await.unwrap(), model.answer(who, &call));
        if let Answer::Followed(followed) = &mut found {
            followed.changed.sort_unstable();
            followed.replicas.sort_unstable();
        }
        let text = format!("{found:?}");
        assert_eq!(text, format!("{expected:?}"), "step {step}: {call:?}");
        kinds.insert(text.split(['(', ' ']).next().unwrap().to_owned());
        if let Answer::Followed(followed) = &found {
            kinds.insert(format!("gap {}", followed.batch.gap));
            kinds.insert(format!("complete {}", followed.batch.end.is_some()));
        }
    }
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    tasks.cancel();
}

#[tokio::test]
async fn a_place_that_has_lost_any_of_its_parts_is_lost() {
    let (server, tasks) = (Server::start(), Tasks::new());
    let client = client(&server, &tasks);
    let place = Place::new(client.clone(), Duration::from_secs(3600), Limits::default());
    raw(&client, &["PING"]).await;
    let follow = |incarnation| Call::Follow {
        incarnation: Some(incarnation),
        anchor: None,
        position: 0,
    };
    let mut last = 0;
    for part in ["log", "meta", "changed"] {
        let begin = Call::Begin {
            replaces: None,
            incarnation: Id::random(),
            after: 5,
        };
        let Answer::Incarnation { id, began } = place.ask(replica(1), &begin).await.unwrap() else {
            panic!("nothing began");
        };
        assert!(began > last.max(1_600_000_000_000_000), "by the server's clock");
        last = began;
        assert!(matches!(
            place.ask(replica(1), &follow(id)).await.unwrap(),
            Answer::Followed(_)
        ));
        raw(&client, &["DEL", &format!("hub:{{purge}}:{part}")]).await;
        for call in [
            follow(id),
            Call::Publish {
                incarnation: id,
                records: Vec::new(),
                changed: vec![1],
            },
        ] {
            assert!(
                matches!(place.ask(replica(1), &call).await.unwrap(), Answer::Lost),
                "{part}"
            );
        }
    }
    tasks.cancel();
}

#[tokio::test]
async fn records_that_are_too_old_for_any_entry_go() {
    let (server, tasks) = (Server::start(), Tasks::new());
    let client = client(&server, &tasks);
    raw(&client, &["PING"]).await;
    let place = Place::new(client, Duration::ZERO, Limits::default());
    let incarnation = Id::random();
    let begin = Call::Begin {
        replaces: None,
        incarnation,
        after: 0,
    };
    let Answer::Incarnation { began, .. } = place.ask(replica(1), &begin).await.unwrap() else {
        panic!("nothing began");
    };
    let publish = Call::Publish {
        incarnation,
        records: vec![record(1, Selector::All)],
        changed: Vec::new(),
    };
    place.ask(replica(1), &publish).await.unwrap();
    let follow = Call::Follow {
        incarnation: Some(incarnation),
        anchor: Some(Anchor {
            position: began,
            id: incarnation,
        }),
        position: began,
    };
    let Answer::Followed(followed) = place.ask(replica(1), &follow).await.unwrap() else {
        panic!("nothing follows");
    };
    assert!(followed.batch.gap && followed.batch.first > began, "{followed:?}");
    assert_eq!(followed.replicas, [(replica(1), began)]);
    tasks.cancel();
}

#[tokio::test]
async fn whoever_waits_is_woken_by_the_next_position() {
    let (server, tasks) = (Server::start(), Tasks::new());
    let client = client(&server, &tasks);
    raw(&client, &["PING"]).await;
    let place = Place::new(client, Duration::from_secs(3600), Limits::default());
    let begin = Call::Begin {
        replaces: None,
        incarnation: Id::random(),
        after: 0,
    };
    let mut connection = place.waiting_room().await.unwrap();
    let wait = place.wait(&mut connection, 0, Duration::from_secs(30));
    let (woken, answer) = tokio::join!(wait, place.ask(replica(1), &begin));
    assert!(woken.unwrap());
    let Answer::Incarnation { began, .. } = answer.unwrap() else {
        panic!("nothing began");
    };
    assert!(
        !place
            .wait(&mut connection, began, Duration::from_millis(1))
            .await
            .unwrap()
    );
    tasks.cancel();
}
