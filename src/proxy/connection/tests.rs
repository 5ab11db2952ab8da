//! Tests of what a connection is ended for.

use super::*;

const TICK: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1000 + seconds)
}

#[test]
fn a_head_has_a_deadline_unless_an_answer_is_owed() {
    let open = testing::open();
    assert_eq!(open.state().overdue(at(9), TICK), None);
    assert_eq!(open.state().overdue(at(10), TICK), Some(Overdue::SlowHead));
    open.state().work_begins();
    assert_eq!(open.state().overdue(at(10), TICK), None);
}

#[test]
fn between_requests_only_the_idle_timeout_counts() {
    let open = testing::open();
    open.state().head_ended();
    assert_eq!(open.state().overdue(at(74), TICK), None);
    assert_eq!(open.state().overdue(at(75), TICK), Some(Overdue::Idle));
}

#[test]
fn a_body_keeps_its_rate_while_it_is_waited_for() {
    let open = testing::open();
    let state = open.state();
    state.head_ended();
    state.work_begins();
    state.body_begins();
    assert_eq!(
        state.overdue(at(60), Duration::from_secs(60)),
        None,
        "nobody reads the body"
    );
    state.body_awaited(true);
    state.body_received(3000);
    assert_eq!(state.overdue(at(61), Duration::from_secs(6)), None);
    assert_eq!(state.overdue(at(62), TICK), Some(Overdue::SlowBody));
}

#[test]
fn a_reader_that_takes_nothing_is_ended() {
    let open = testing::open();
    open.state().head_ended();
    open.state().work_begins();
    open.state().write_blocked();
    assert_eq!(open.state().overdue(at(75), TICK), Some(Overdue::SlowReader));
    open.state().sent(1);
    assert_eq!(open.state().overdue(at(75), TICK), None);
}
