//! One stored response, and what RFC 9111 says about it.

use outrigger::clock::Timestamp;

use super::origin::{Contact, Fields};
use super::steps::{Ask, Rules, Share};

/// The greatest number of seconds that is told from others (RFC 9111, section 1.2.2).
const MOST: u64 = 1 << 31;

/// A response that a cache may hold: what one exchange brought, with what later ones confirmed and changed.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The number of the exchange that brought or last confirmed it.
    pub(super) order: usize,
    /// The request that fetched it.
    pub(super) asked: Ask,
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: String,
    /// When the exchange that brought or last confirmed it began and ended, in seconds.
    pub(super) began: u64,
    pub(super) received: u64,
    /// Whether a cache that is worth its name has it.
    pub(super) kept: bool,
    /// Whether it is as it was fetched.
    pub(super) whole: bool,
}

impl Stored {
    pub(super) fn mark(&self) -> &str {
        &self.fields["x-mark"]
    }

    /// RFC 9111, section 4.3.4: what a 304, or the answer to a HEAD (section 4.3.5), makes of it.
    pub(super) fn confirmed(&self, contact: &Contact, order: usize) -> Self {
        let mut fields = self.fields.clone();
        fields.remove("age");
        fields.remove("date");
        let fresh = contact.fields.iter().filter(|(name, _)| *name != "set-cookie");
        fields.extend(fresh.map(|(name, value)| (name.clone(), value.clone())));
        Self {
            order,
            fields,
            began: contact.began,
            received: contact.answered,
            kept: false,
            whole: false,
            ..self.clone()
        }
    }

    /// Whether these are the validators that it has (section 4.3.1).
    pub(super) fn is_validated_by(&self, asked: &Fields) -> bool {
        let (etag, modified) = (self.fields.get("etag"), self.fields.get("last-modified"));
        (etag.is_some() || modified.is_some())
            && asked.get("if-none-match") == etag
            && asked.get("if-modified-since") == modified
    }

    fn directives(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let control = self.fields.get("cache-control").map_or("", String::as_str);
        control.split(", ").map(|one| {
            one.split_once('=')
                .map_or((one, None), |(name, value)| (name, Some(value)))
        })
    }

    pub(super) fn says(&self, directive: &str) -> bool {
        self.directives().any(|one| one == (directive, None))
    }

    fn seconds(&self, directive: &str) -> Option<u64> {
        let given = self.directives().filter(|(name, _)| *name == directive);
        given
            .map(|(_, value)| value.unwrap().parse::<u64>().unwrap().min(MOST))
            .min()
    }

    /// Whether a directive names this field (sections 5.2.2.4 and 5.2.2.7), and does not mean all of them as well.
    pub(super) fn limits(&self, field: &str) -> bool {
        let quoted = format!("\"{field}\"");
        self.directives()
            .any(|(name, value)| value == Some(&quoted) && !self.says(name))
    }

    fn date(&self, name: &str) -> Option<u64> {
        let time = httpdate::parse_http_date(self.fields.get(name)?).ok()?;
        Some(Timestamp::from_system_time(time).as_secs())
    }

    /// The age as it is told: nothing is older than the beginning of time.
    pub(super) fn told_age(&self, now: u64) -> u64 {
        self.age(now).min(now)
    }

    /// Section 4.2.3, in whole seconds.
    pub(super) fn age(&self, now: u64) -> u64 {
        let digits = |text: &&String| text.bytes().all(|octet| octet.is_ascii_digit());
        let claimed = self.fields.get("age").filter(digits);
        let claimed = claimed.map_or(0, |text| text.parse::<u64>().unwrap_or(MOST).min(MOST));
        let apparent = self
            .received
            .saturating_sub(self.date("date").unwrap_or(self.received));
        let corrected = claimed + (self.received - self.began);
        apparent.max(corrected) + (now - self.received)
    }

    /// The route's own time to live, where it has one for this status.
    fn ttl(&self, rules: &Rules) -> Option<u64> {
        rules
            .ttl
            .filter(|_| [200, 203, 204, 300, 301, 308].contains(&self.status))
    }

    /// Seconds of freshness left; none if nobody gives any (section 4.2). A route's time to live counts from the arrival.
    pub(super) fn left(&self, rules: &Rules, now: u64) -> Option<i64> {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap();
        if let Some(ttl) = self.ttl(rules) {
            return Some(signed(self.received + ttl) - signed(now));
        }
        let made = self.date("date").unwrap_or(self.received);
        let by_expires = || {
            let expires = self.fields.get("expires")?;
            let at = httpdate::parse_http_date(expires).ok();
            Some(at.map_or(0, |at| {
                Timestamp::from_system_time(at).as_secs().saturating_sub(made)
            }))
        };
        let by_heuristic = || {
            let allowed = rules.heuristic && (self.is_heuristically_cacheable() || self.says("public"));
            let modified = self.date("last-modified").filter(|_| allowed)?;
            Some((made.saturating_sub(modified) / 10).min(86_400))
        };
        let lifetime = self.seconds("s-maxage").or_else(|| self.seconds("max-age"));
        let lifetime = lifetime.or_else(by_expires).or_else(by_heuristic)?;
        Some(signed(lifetime) - signed(self.age(now)))
    }

    /// The same; what has no freshness is stale since it was made.
    pub(super) fn left_or_none(&self, rules: &Rules, now: u64) -> i64 {
        self.left(rules, now)
            .unwrap_or_else(|| -i64::try_from(self.age(now)).unwrap())
    }

    fn is_heuristically_cacheable(&self) -> bool {
        [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].contains(&self.status)
    }

    /// Whether `no-cache` holds: a route's own time to live stands for what the origin says of freshness.
    pub(super) fn needs_validation(&self, rules: &Rules) -> bool {
        self.says("no-cache") && self.ttl(rules).is_none()
    }

    /// Section 3. Cookies of the origin are never kept.
    pub(super) fn is_storable(&self, rules: &Rules) -> bool {
        let explicit = self.ttl(rules).is_some()
            || self.says("public")
            || self.fields.contains_key("expires")
            || self.seconds("max-age").or(self.seconds("s-maxage")).is_some();
        let refused_by_client = rules.honour && self.asked.control.contains(&("no-store", None));
        // Section 3.5, where the key does not keep principals apart.
        let guarded =
            rules.share == Share::All && self.ttl(rules).is_none() && self.asked.authorization.is_some();
        self.asked.method == "GET"
            && (explicit || self.is_heuristically_cacheable())
            && !self.says("no-store")
            && !self.says("private")
            && !refused_by_client
            && !self.fields.contains_key("set-cookie")
            && self.fields.get("vary").is_none_or(|vary| vary != "*")
            && (!guarded || self.is_public())
    }

    /// Section 3.5; of cookies RFC 9111 says nothing, so they need the explicit word.
    pub(super) fn is_public(&self) -> bool {
        let by_authorization = self.asked.authorization.is_some() && self.asked.cookie.is_none();
        self.says("public")
            || self.seconds("s-maxage").is_some()
            || (self.says("must-revalidate") && by_authorization)
    }

    /// Whether whoever asks may see it.
    pub(super) fn is_for(&self, rules: &Rules, ask: &Ask) -> bool {
        match rules.share {
            Share::All => true,
            Share::Principal => self.asked.principal() == ask.principal(),
            Share::Safe => self.is_public() || self.asked.principal() == ask.principal(),
        }
    }

    /// Section 4.1.
    pub(super) fn is_selected_by(&self, ask: &Ask) -> bool {
        let vary = self
            .fields
            .get("vary")
            .map_or("", String::as_str)
            .to_ascii_lowercase();
        vary.split(", ").all(|name| match name {
            "" | "x-other" => true,
            "accept-language" => self.asked.language == ask.language,
            "cookie" => self.asked.cookie == ask.cookie,
            _ => false,
        })
    }

    /// What forbids any stale use: `proxy-revalidate` is in `s-maxage`, unless the origin allows such a use beside it.
    fn is_strict(&self, rules: &Rules, window: Option<u64>) -> bool {
        self.says("must-revalidate")
            || self.says("proxy-revalidate")
            || self.needs_validation(rules)
            || (self.seconds("s-maxage").is_some() && window.is_none())
    }

    /// Seconds of stale use while it is being validated (RFC 5861, section 3).
    pub(super) fn while_revalidate(&self, rules: &Rules) -> u64 {
        let origin = self.seconds("stale-while-revalidate");
        let allowed =
            !self.is_strict(rules, origin) && self.status < 500 && self.left(rules, self.received).is_some();
        rules
            .stale_while_revalidate
            .or(origin)
            .filter(|_| allowed)
            .unwrap_or(0)
    }

    /// Seconds of stale use after an error of the origin (RFC 5861, section 4).
    pub(super) fn if_error(&self, rules: &Rules) -> u64 {
        let origin = self.seconds("stale-if-error");
        let allowed = !self.is_strict(rules, origin) && self.status < 500;
        rules.stale_if_error.or(origin).filter(|_| allowed).unwrap_or(0)
    }

    /// Whether a client, or the loss of the origin, may make it be used stale (RFC 9111, section 4.2.4).
    pub(super) fn may_be_stale(&self, rules: &Rules) -> bool {
        let window = self
            .seconds("stale-while-revalidate")
            .or(self.seconds("stale-if-error"));
        !self.is_strict(rules, window)
    }

    /// Whether the client has it already (RFC 9110, section 13.2.2).
    pub(super) fn is_held_by(&self, ask: &Ask) -> bool {
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        let own = self.fields.get("etag").map(|etag| opaque(etag));
        match (ask.none_match, ask.since) {
            (Some(listed), _) => listed
                .split(", ")
                .any(|tag| tag == "*" || Some(opaque(tag)) == own),
            (None, Some(before)) => {
                let modified = self
                    .date("last-modified")
                    .or(self.date("date"))
                    .unwrap_or(self.received);
                modified <= super::stage::EPOCH - before
            }
            (None, None) => false,
        }
    }
}

impl Ask {
    /// Whose request it is.
    pub(super) fn principal(&self) -> (Option<&'static str>, Option<&'static str>) {
        (self.authorization, self.cookie)
    }

    /// The argument of a directive that the route honours; the strictest, and no bound for one without.
    pub(super) fn wants(&self, rules: &Rules, directive: &str) -> Option<u64> {
        let given = self
            .control
            .iter()
            .filter(|(name, _)| rules.honour && *name == directive);
        let given = given.map(|(_, seconds)| seconds.unwrap_or(u64::MAX));
        if directive == "min-fresh" {
            given.max()
        } else {
            given.min()
        }
    }

    /// Whether it will not have what is stored (sections 5.2.1.4 and 5.4).
    pub(super) fn refuses_stored(&self, rules: &Rules) -> bool {
        let pragma = rules.honour && self.pragma && self.control.is_empty();
        pragma || self.wants(rules, "no-cache").is_some()
    }
}
