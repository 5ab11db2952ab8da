//! The two text formats of a scrape.
//!
//! prometheus-client writes OpenMetrics. A scraper that does not ask for it gets the older text format 0.0.4, which
//! differs in that a counter's description carries the name of its samples, there is no unit and no end mark, and a
//! few types are called otherwise.

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// What the value of `Accept` asks for; the text format unless OpenMetrics is named and not refused.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let named = accept
            .into_iter()
            .flat_map(|accept| accept.split(','))
            .any(|range| {
                let mut parts = range.split(';').map(str::trim);
                parts.next() == Some("application/openmetrics-text")
                    && !parts.any(|parameter| {
                        parameter
                            .strip_prefix("q=")
                            .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
                    })
            });
        if named { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Turns OpenMetrics into the text format 0.0.4.
pub fn to_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 16);
    let mut help = None;
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            push_line(&mut text, &[line]);
            continue;
        };
        if let Some(described) = comment.strip_prefix("HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = comment
            .strip_prefix("TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((described, sentence)) = help.take()
                && described == name
            {
                push_line(&mut text, &["# HELP ", name, suffix, " ", sentence]);
            }
            push_line(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        }
    }
    text
}

fn push_line(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_only_for_who_asks() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::negotiate(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(
            Format::negotiate(Some("text/plain, application/openmetrics-text;q=0")),
            Format::Text
        );
        assert_eq!(Format::negotiate(Some("*/*")), Format::Text);
        assert_eq!(Format::negotiate(None), Format::Text);
    }

    #[test]
    fn counters_are_described_by_the_name_of_their_samples() {
        let openmetrics = "# HELP a Things.\n# TYPE a counter\n# UNIT a bytes\na_total{x=\"# TYPE\"} 1\n\
                           # HELP b Info.\n# TYPE b info\nb_info 1\n# HELP c C.\n# TYPE c gauge\nc 2.0\n# EOF\n";
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n\
                    # HELP b_info Info.\n# TYPE b_info gauge\nb_info 1\n# HELP c C.\n# TYPE c gauge\nc 2.0\n";
        assert_eq!(to_text(openmetrics), text);
    }
}
