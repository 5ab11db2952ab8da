//! What must hold: for each response, and for the requests that the origin saw.

use http::{Method, StatusCode};

use super::cases::{Expected, Named, Operand, Source, Step};
use super::client::Answer;
use super::fields::{joined, leading_number};
use super::origin::Seen;

/// Why a test is not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What prepares it went wrong.
    Setup(String),
    /// What it is about does not hold.
    Failed(String),
}

type Verdict = Result<(), Fault>;

/// Fails unless `holds`.
fn check(prepares: bool, holds: bool, reason: impl FnOnce() -> String) -> Verdict {
    match (holds, prepares) {
        (true, _) => Ok(()),
        (false, true) => Err(Fault::Setup(reason())),
        (false, false) => Err(Fault::Failed(reason())),
    }
}

/// Judges the answer to request `number`.
pub(super) fn response(step: &Step, number: usize, answer: &Answer, token: &str) -> Verdict {
    if let Some(numbers) = joined(&answer.headers, "request-numbers") {
        let mut numbers: Vec<_> = numbers.split(' ').collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        check(true, numbers.len() == all, || "the proxy tried again".to_owned())?;
    }
    source(step, number, answer)?;
    status(step, number, answer)?;
    present(step, number, answer)?;
    missing(step, number, answer)?;
    interims(step, number, answer)?;
    body(step, number, answer, token)
}

fn source(step: &Step, number: usize, answer: &Answer) -> Verdict {
    let prepares = step.prepares("expected_type");
    let count = joined(&answer.headers, "server-request-count").and_then(|count| leading_number(&count));
    let number = i64::try_from(number).expect("few requests");
    match step.expected_type {
        // Not every cache repeats the origin's fields in its 304.
        Some(Source::Cached) if answer.status == StatusCode::NOT_MODIFIED && count.is_none() => Ok(()),
        Some(Source::Cached) => check(prepares, count.is_some_and(|count| count < number), || {
            format!("response {number} does not come from the cache")
        }),
        Some(Source::NotCached) => check(prepares, count == Some(number), || {
            format!("response {number} comes from the cache")
        }),
        Some(Source::EtagValidated | Source::LmValidated) | None => Ok(()),
    }
}

fn status(step: &Step, number: usize, answer: &Answer) -> Verdict {
    let got = answer.status.as_u16();
    let is = |prepares, wanted: u16| {
        check(prepares, got == wanted, || {
            format!("response {number} has status {got}, not {wanted}")
        })
    };
    match (step.expected_status, &step.response_status) {
        (Some(None), _) => Ok(()),
        (Some(Some(wanted)), _) => is(step.prepares("expected_status"), wanted),
        (None, Some((sent, _))) => is(true, *sent),
        (None, None) if got == 999 => check(step.prepares("expected_type"), false, || {
            format!("request {number} should have been conditional")
        }),
        (None, None) => is(true, 200),
    }
}

fn present(step: &Step, number: usize, answer: &Answer) -> Verdict {
    let prepares = step.prepares("expected_response_headers");
    let target = joined(&answer.headers, "server-base-url");
    let base = answer.base(&target);
    for expected in &step.expected_response_headers {
        let (Expected::Present(name) | Expected::Is(name, _) | Expected::Compares(name, ..)) = expected;
        let value = joined(&answer.headers, name);
        let (holds, wanted) = match expected {
            Expected::Present(_) => (value.is_some(), "present".to_owned()),
            Expected::Is(_, wanted) => {
                let wanted = base.value(name, wanted, step);
                (value.as_ref() == Some(&wanted), format!("{wanted:?}"))
            }
            Expected::Compares(_, operator, Operand::Name(other)) if operator == "=" => {
                let other = joined(&answer.headers, other);
                (value.is_some() && value == other, format!("{other:?}"))
            }
            Expected::Compares(_, operator, Operand::Number(bound)) if operator == ">" => {
                let got = value.as_deref().and_then(leading_number);
                (got.is_some_and(|got| got > *bound), format!("more than {bound}"))
            }
            Expected::Compares(..) => panic!("an unknown comparison: {expected:?}"),
        };
        check(prepares, holds, || {
            format!("response {number} has {name}: {value:?}, not {wanted}")
        })?;
    }
    Ok(())
}

fn missing(step: &Step, number: usize, answer: &Answer) -> Verdict {
    let prepares = step.prepares("expected_response_headers_missing");
    for unwanted in &step.expected_response_headers_missing {
        let (Named::Name(name) | Named::Value(name, _)) = unwanted;
        let value = joined(&answer.headers, name);
        let holds = match unwanted {
            Named::Name(_) => value.is_none(),
            Named::Value(_, unwanted) => !value.as_deref().unwrap_or_default().contains(unwanted.as_str()),
        };
        check(prepares, holds, || {
            format!("response {number} has the unwanted {name}: {value:?}")
        })?;
    }
    Ok(())
}

fn interims(step: &Step, number: usize, answer: &Answer) -> Verdict {
    let Some(expected) = &step.expected_interim_responses else {
        return Ok(());
    };
    let prepares = step.prepares("expected_interim_responses");
    for (at, wanted) in expected.iter().enumerate() {
        let Some((status, headers)) = answer.interims.get(at) else {
            break;
        };
        check(prepares, status.as_u16() == wanted.status(), || {
            format!("interim response {at} to request {number} has status {status}")
        })?;
        for (name, value) in wanted.fields() {
            let got = joined(headers, name);
            check(prepares, got.as_ref() == Some(value), || {
                format!("interim response {at} to request {number} has {name}: {got:?}, not {value:?}")
            })?;
        }
    }
    let (got, wanted) = (answer.interims.len(), expected.len());
    check(prepares, got == wanted, || {
        format!("{got} interim responses to request {number}, not {wanted}")
    })
}

fn body(step: &Step, number: usize, answer: &Answer, token: &str) -> Verdict {
    if step.check_body == Some(false) {
        return Ok(());
    }
    let no_body =
        matches!(answer.status.as_u16(), 204 | 304) || step.request_method.as_deref() == Some("HEAD");
    let (prepares, wanted) = match (&step.expected_response_text, &step.response_body) {
        (Some(None), _) => return Ok(()),
        (Some(Some(text)), _) => (step.prepares("expected_response_text"), text.as_str()),
        (None, Some(text)) => (true, text.as_str()),
        (None, None) if no_body => return Ok(()),
        (None, None) => (true, token),
    };
    check(prepares, answer.body == wanted, || {
        format!("response {number} has the body {:?}, not {wanted:?}", answer.body)
    })
}

/// Judges the requests that the origin saw, and whether its fields reached the client.
pub(super) fn requests(steps: &[Step], answers: &[Answer], seen: &[Seen]) -> Verdict {
    let mut seen = seen.iter();
    for ((step, answer), number) in steps.iter().zip(answers).zip(1_u64..) {
        if step.expected_type == Some(Source::Cached) {
            continue;
        }
        let unseen = || Fault::Failed(format!("request {number} did not reach the origin"));
        let Some(request) = seen.next() else {
            let nothing_asked = step.expected_type.is_none()
                && step.expected_method.is_none()
                && step.expected_request_headers.is_empty()
                && step.expected_request_headers_missing.is_empty();
            if nothing_asked {
                continue;
            }
            return Err(unseen());
        };
        forwarded(step, number, request)?;
        for (name, value) in &request.sent {
            if name.eq_ignore_ascii_case("date") {
                continue;
            }
            let got = joined(&answer.headers, name);
            check(true, got.as_ref() == Some(value), || {
                format!("response {number} has {name}: {got:?}, not {value:?}")
            })?;
        }
        if let Some(method) = &step.expected_method {
            let holds = request.method == Method::from_bytes(method.as_bytes()).expect("a method");
            check(step.prepares("expected_method"), holds, || {
                format!("request {number} had method {}, not {method}", request.method)
            })?;
        }
    }
    Ok(())
}

fn forwarded(step: &Step, number: u64, request: &Seen) -> Verdict {
    if let Some(expected) = step.expected_type {
        let prepares = step.prepares("expected_type");
        let right = expected != Source::NotCached || request.number == Some(number);
        check(prepares, right, || {
            format!("response {number} comes from the cache")
        })?;
        if let Some(condition) = expected.condition() {
            let holds = request.headers.contains_key(condition);
            check(prepares, holds, || format!("request {number} has no {condition}"))?;
        }
    }
    for (fields, check_name, wanted) in [
        (&step.expected_request_headers, "expected_request_headers", true),
        (
            &step.expected_request_headers_missing,
            "expected_request_headers_missing",
            false,
        ),
    ] {
        for field in fields {
            let (Named::Name(name) | Named::Value(name, _)) = field;
            let got = joined(&request.headers, name);
            let there = match field {
                Named::Name(_) => got.is_some(),
                Named::Value(_, value) => got.as_ref() == Some(value),
            };
            check(step.prepares(check_name), there == wanted, || {
                format!("request {number} reached the origin with {name}: {got:?}")
            })?;
        }
    }
    Ok(())
}
