//! Whether what a step brought is what it may and must bring.

use super::learn::response;
use super::origin::Contact;
use super::stage::Played;
use super::steps::{Action, Ask, Step};
use super::stored::Stored;
use super::world::{Purge, Use, World, is_failure};
use crate::harness::Answer;

impl World {
    /// Judges what was played, and learns from it.
    pub(super) fn judge(&mut self, step: &Step, played: &Played) -> Result<(), String> {
        match (&step.action, &played.answer) {
            (Action::Ask(ask, _), Some(answer)) => {
                let served = if matches!(ask.method, "GET" | "HEAD") {
                    self.judge_safe(ask, answer, played)?
                } else {
                    judge_unsafe(answer, played)?;
                    None
                };
                self.learn(ask, played, served);
            }
            (Action::Purge { target, soft }, _) => {
                self.clock += 1;
                self.purges.push(Purge {
                    order: self.clock,
                    target: *target,
                    soft: *soft,
                });
            }
            (Action::Ask(..), None) => return Err("no answer".to_owned()),
        }
        Ok(())
    }

    /// Judges the answer to a GET or HEAD; the stored response that it came from, if there is one.
    fn judge_safe(&self, ask: &Ask, answer: &Answer, played: &Played) -> Result<Option<Stored>, String> {
        for contact in &played.contacts {
            self.judge_conditions(ask, contact, played)?;
        }
        if let Some(certain) = self.certain_hit(ask, played.from)
            && !played.contacts.is_empty()
        {
            return Err(format!(
                "the origin was asked although this is fresh: {certain:#?}"
            ));
        }
        let failed = played.contacts.iter().any(|contact| is_failure(contact.status));
        let must = self.must_stand_in(ask, played.to).filter(|_| failed);
        if let Some(must) = must
            && answer.header("x-mark") != must.mark()
        {
            return Err(format!("the origin failed, and this did not stand in: {must:#?}"));
        }
        let mark = answer.header("x-mark");
        if mark.is_empty() {
            return self.judge_own(ask, answer, played).map(|()| None);
        }
        match played.contacts.iter().find(|contact| contact.mark() == mark) {
            Some(contact) if contact.status == Some(304) => {
                self.judge_confirmed(ask, answer, contact, played)
            }
            Some(contact) => self.judge_fetched(ask, answer, contact).map(|()| None),
            None => self.judge_stored(ask, answer, played).map(Some),
        }
    }

    /// An answer that the origin did not give.
    fn judge_own(&self, ask: &Ask, answer: &Answer, played: &Played) -> Result<(), String> {
        let only_if_cached =
            self.wants_only_cached(ask) && answer.status == 504 && played.contacts.is_empty();
        let no_answer = played.contacts.iter().any(|contact| contact.status.is_none());
        if only_if_cached || (no_answer && matches!(answer.status.as_u16(), 502..=504)) {
            Ok(())
        } else {
            Err("an answer of nobody's".to_owned())
        }
    }

    /// An answer that the origin gave in this step.
    fn judge_fetched(&self, ask: &Ask, answer: &Answer, contact: &Contact) -> Result<(), String> {
        if self.wants_only_cached(ask) {
            return Err("the origin was asked for what only the cache was".to_owned());
        }
        let fetched = response(ask, contact, 0);
        if answer.status == 304 && fetched.status == 200 && fetched.is_held_by(ask) {
            return Ok(());
        }
        let body = if ask.method == "HEAD" { "" } else { contact.mark() };
        if Some(answer.status.as_u16()) != contact.status || answer.text() != body {
            return Err("not what the origin sent".to_owned());
        }
        Ok(())
    }

    /// An answer that was stored before, as it was.
    fn judge_stored(&self, ask: &Ask, answer: &Answer, played: &Played) -> Result<Stored, String> {
        let mut problems = Vec::new();
        for stored in self.stored.iter().filter(|stored| is_from(answer, ask, stored)) {
            let by_age = self.use_of(stored, ask, played.from);
            let stands_in = || {
                let statuses = played.contacts.iter().map(|contact| contact.status);
                statuses
                    .filter(|status| is_failure(*status))
                    .any(|status| self.may_stand_in(stored, ask, status, played.to))
            };
            if by_age < Use::Stale && !stands_in() {
                problems.push(format!("{by_age:?} says the model of {stored:#?}"));
                continue;
            }
            if by_age >= Use::Stale
                && let Some(newer) = self.newer(stored, ask, played.from)
            {
                problems.push(format!("this is more recent: {newer:#?}\nthan {stored:#?}"));
                continue;
            }
            match self.judge_fields(stored, ask, answer, played) {
                Ok(()) => return Ok(stored.clone()),
                Err(problem) => problems.push(format!("{problem} in {stored:#?}")),
            }
        }
        Err(format!(
            "a stored response that must not be used: {}",
            problems.join("\n")
        ))
    }

    /// An answer with fields of a 304.
    fn judge_confirmed(
        &self,
        ask: &Ask,
        answer: &Answer,
        contact: &Contact,
        played: &Played,
    ) -> Result<Option<Stored>, String> {
        let own = contact.asked.get("if-none-match").map(String::as_str) == ask.none_match
            && contact.asked.contains_key("if-modified-since") == ask.since.is_some();
        if answer.status == 304 && own {
            return Ok(None);
        }
        let candidates = self.confirmed_by(ask, contact, played.from);
        let mut problem = String::from("the origin was not asked about it");
        for stored in candidates {
            let now = stored.confirmed(contact, 0);
            if !is_from(answer, ask, &now) {
                continue;
            }
            match self.judge_fields(&now, ask, answer, played) {
                Ok(()) => return Ok(Some(stored.clone())),
                Err(found) => problem = format!("{found} in {now:#?}"),
            }
        }
        Err(format!("a response that was not confirmed: {problem}"))
    }

    /// The fields, and whether the client's condition was evaluated well.
    fn judge_fields(
        &self,
        stored: &Stored,
        ask: &Ask,
        answer: &Answer,
        played: &Played,
    ) -> Result<(), String> {
        let held = stored.status == 200 && stored.is_held_by(ask);
        if (answer.status == 304) != held {
            return Err(format!("held: {held}, answered: {}", answer.status));
        }
        let age: u64 = answer.header("age").parse().map_err(|_| "no Age".to_owned())?;
        let real = stored.told_age(played.from.max(stored.received))..=stored.told_age(played.to);
        if !real.contains(&age) {
            return Err(format!("Age is {age} and should be {real:?}"));
        }
        for name in [
            "cache-control",
            "etag",
            "vary",
            "expires",
            "last-modified",
            "location",
        ] {
            let expected = stored.fields.get(name).map_or("", String::as_str);
            if answer.header(name) != expected {
                return Err(format!("{name} is `{}`, not `{expected}`", answer.header(name)));
            }
        }
        let just_sent = played
            .contacts
            .iter()
            .any(|contact| contact.mark() == stored.mark());
        let limited = stored.limits("x-limited") && answer.headers.contains_key("x-limited");
        if (limited && !just_sent) || answer.headers.contains_key("set-cookie") {
            return Err("a field that must not be stored".to_owned());
        }
        Ok(())
    }

    /// Nothing that the origin is asked comes from a response that is not for this client.
    fn judge_conditions(&self, ask: &Ask, contact: &Contact, played: &Played) -> Result<(), String> {
        let Some(tag) = contact.asked.get("if-none-match") else {
            return Ok(());
        };
        let own = ask.none_match == Some(tag.as_str());
        let known = self.stored.iter().any(|stored| {
            stored.fields.get("etag") == Some(tag) && self.use_of(stored, ask, played.from) > Use::Never
        });
        if own || known {
            Ok(())
        } else {
            Err(format!(
                "the origin was asked about {tag}, which is of nothing that is stored for this request"
            ))
        }
    }
}

/// The answer to an unsafe request is the origin's.
fn judge_unsafe(answer: &Answer, played: &Played) -> Result<(), String> {
    let own = |contact: &Contact| {
        contact.mark() == answer.header("x-mark") && contact.status == Some(answer.status.as_u16())
    };
    let failed = played.contacts.iter().any(|contact| contact.status.is_none());
    if played.contacts.iter().any(own) || (failed && matches!(answer.status.as_u16(), 502..=504)) {
        Ok(())
    } else {
        Err("an unsafe request was not answered by the origin".to_owned())
    }
}

/// Whether an answer shows this response.
fn is_from(answer: &Answer, ask: &Ask, stored: &Stored) -> bool {
    let whole = ask.method == "GET" && answer.status != 304;
    answer.header("x-mark") == stored.mark()
        && (!whole || answer.text() == stored.body)
        && (answer.status == 304 || answer.status.as_u16() == stored.status)
}
