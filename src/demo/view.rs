//! What the demo shows: a table redrawn in place on a terminal, lines elsewhere, and a summary at the end.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::stats::{DemoStats, EndpointStats, Quantiles};

/// Who listens where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// The sidecar.
    pub(super) sidecar: SocketAddr,
    /// The hub behind it.
    pub(super) hub: SocketAddr,
    /// The sidecar's admin listener.
    pub(super) admin: SocketAddr,
}

/// The output of the demo.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    terminal: bool,
    addresses: Addresses,
    /// Lines of the last picture, which the next one replaces.
    drawn: usize,
}

impl Screen {
    /// A screen on `out`; with `terminal`, pictures replace each other by ANSI escape sequences (ECMA-48).
    pub(super) fn new(out: Box<dyn Write + Send>, terminal: bool, addresses: Addresses) -> Self {
        Self {
            out,
            terminal,
            addresses,
            drawn: 0,
        }
    }

    /// Whether pictures replace each other.
    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Says what runs where.
    ///
    /// # Errors
    /// When the output fails; so for the other methods.
    pub(super) fn welcome(&mut self) -> io::Result<()> {
        self.out.write_all(welcome(&self.addresses).as_bytes())?;
        self.out.flush()
    }

    /// Shows the figures so far.
    pub(super) fn refresh(&mut self, stats: &DemoStats) -> io::Result<()> {
        if self.terminal {
            let picture = table(stats);
            self.replace(&picture)
        } else {
            self.out.write_all(line(stats).as_bytes())?;
            self.out.flush()
        }
    }

    /// Shows the final figures.
    pub(super) fn summary(&mut self, stats: &DemoStats) -> io::Result<()> {
        let picture = format!("{}\n{}", table(stats), conclusion(stats));
        self.replace(&picture)
    }

    /// Writes `picture` over the last one, if there is one.
    fn replace(&mut self, picture: &str) -> io::Result<()> {
        if self.drawn > 0 {
            // CPL: up to the first column of the first line drawn. ED: erase from there.
            write!(self.out, "\x1b[{}F\x1b[J", self.drawn)?;
        }
        self.out.write_all(picture.as_bytes())?;
        self.drawn = if self.terminal { picture.lines().count() } else { 0 };
        self.out.flush()
    }
}

fn welcome(addresses: &Addresses) -> String {
    let Addresses { sidecar, hub, admin } = addresses;
    format!(
        "A sample AI hub on http://{hub}, the sidecar before it on http://{sidecar}.\n\
         Ask it yourself:  curl -i http://{sidecar}/api/models-catalog\n\
         Look inside:      curl http://{admin}/api/v1/performance/cache/stats\n         Its metrics:      curl http://{admin}/metrics\n\
         Ctrl-C ends the demo.\n\n"
    )
}

/// One line for a log.
fn line(stats: &DemoStats) -> String {
    format!(
        "{:>4} s  requests {}  hits {} ({})  hub calls {}  spared {}  errors {}  unanswered {}\n",
        stats.elapsed.as_secs(),
        stats.requests(),
        stats.sum(|endpoint| endpoint.hits),
        ratio(stats.sum(|endpoint| endpoint.hits), stats.requests()),
        stats.sum(|endpoint| endpoint.hub_calls),
        stats.sum(EndpointStats::saved),
        stats.sum(|endpoint| endpoint.errors),
        stats.sum(|endpoint| endpoint.failed),
    )
}

/// The whole table, one row per endpoint that was asked.
fn table(stats: &DemoStats) -> String {
    let mut table = String::new();
    row(
        &mut table,
        &format!("after {} s", stats.elapsed.as_secs()),
        ["requests", "hits", "hub calls", "spared", "errors"].map(str::to_owned),
        ["from cache p50/p95", "from hub p50/p95"].map(str::to_owned),
    );
    for endpoint in &stats.endpoints {
        row(
            &mut table,
            endpoint.endpoint.label(),
            [
                endpoint.requests.to_string(),
                ratio(endpoint.hits, endpoint.requests),
                endpoint.hub_calls.to_string(),
                endpoint.saved().to_string(),
                (endpoint.errors + endpoint.failed).to_string(),
            ],
            [
                quantiles(endpoint.hit_latency),
                quantiles(endpoint.fetched_latency),
            ],
        );
    }
    row(
        &mut table,
        "all",
        [
            stats.requests().to_string(),
            ratio(stats.sum(|endpoint| endpoint.hits), stats.requests()),
            stats.sum(|endpoint| endpoint.hub_calls).to_string(),
            stats.sum(EndpointStats::saved).to_string(),
            stats
                .sum(|endpoint| endpoint.errors + endpoint.failed)
                .to_string(),
        ],
        [String::new(), String::new()],
    );
    table
}

fn row(table: &mut String, name: &str, figures: [String; 5], latencies: [String; 2]) {
    let [requests, hits, calls, spared, errors] = figures;
    let [hit, fetched] = latencies;
    let mut row = format!("{name:<25}");
    // Writing into a String cannot fail.
    let written = write!(
        row,
        " {requests:>8} {hits:>7} {calls:>9} {spared:>7} {errors:>6}  {hit:>18}  {fetched:>18}"
    );
    debug_assert!(written.is_ok());
    table.push_str(row.trim_end());
    table.push('\n');
}

/// The sentence under the final table.
fn conclusion(stats: &DemoStats) -> String {
    let (requests, hub_calls) = (stats.requests(), stats.sum(|endpoint| endpoint.hub_calls));
    let spared = stats.sum(EndpointStats::saved);
    format!(
        "{requests} requests in {} s: the hub was asked {hub_calls} times and spared {spared} times ({}).\n\
         {} answers were errors, {} never came, {} belonged to another user.\n",
        stats.elapsed.as_secs(),
        ratio(spared, requests),
        stats.sum(|endpoint| endpoint.errors),
        stats.sum(|endpoint| endpoint.failed),
        stats.sum(|endpoint| endpoint.foreign),
    )
}

fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

fn quantiles(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(
        || "-".to_owned(),
        |Quantiles { p50, p95 }| format!("{} / {} ms", milliseconds(p50), milliseconds(p95)),
    )
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::endpoint::Endpoint;
    use super::*;

    fn stats() -> DemoStats {
        DemoStats {
            elapsed: Duration::from_millis(12_900),
            endpoints: vec![
                EndpointStats {
                    endpoint: Endpoint::Catalog,
                    requests: 200,
                    hits: 150,
                    errors: 2,
                    failed: 1,
                    foreign: 0,
                    hub_calls: 40,
                    hit_latency: Some(Quantiles {
                        p50: Duration::from_micros(310),
                        p95: Duration::from_micros(1_250),
                    }),
                    fetched_latency: None,
                },
                EndpointStats {
                    endpoint: Endpoint::Time,
                    requests: 50,
                    hits: 0,
                    errors: 0,
                    failed: 0,
                    foreign: 0,
                    hub_calls: 50,
                    hit_latency: None,
                    fetched_latency: None,
                },
            ],
        }
    }

    fn addresses() -> Addresses {
        Addresses {
            sidecar: SocketAddr::from(([127, 0, 0, 1], 1)),
            hub: SocketAddr::from(([127, 0, 0, 1], 2)),
            admin: SocketAddr::from(([127, 0, 0, 1], 3)),
        }
    }

    /// What was written, shared with the test.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    #[test]
    fn the_table_has_a_row_per_endpoint_and_the_sums() {
        let table = table(&stats());
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows.len(), 4, "{table}");
        let catalog = "GET /api/models-catalog 200 75.0 % 40 159 3 0.3 / 1.2 ms -";
        assert_eq!(rows[1].join(" "), catalog, "{table}");
        assert_eq!(rows[3].join(" "), "all 250 60.0 % 90 159 3", "{table}");
        assert!(table.lines().all(|line| line.len() <= 110), "{table}");
    }

    #[test]
    fn a_line_tells_the_sums() {
        let line = line(&stats());
        assert_eq!(
            line,
            "  12 s  requests 250  hits 150 (60.0 %)  hub calls 90  spared 159  errors 2  unanswered 1\n"
        );
    }

    #[test]
    fn nothing_asked_is_not_a_division_by_zero() {
        let none = DemoStats {
            elapsed: Duration::ZERO,
            endpoints: Vec::new(),
        };
        assert!(line(&none).contains("hits 0 (-)"));
        assert!(conclusion(&none).starts_with("0 requests in 0 s"));
    }

    #[test]
    fn a_terminal_is_redrawn_in_place() {
        let paper = Paper::default();
        let mut screen = Screen::new(Box::new(paper.clone()), true, addresses());
        screen.refresh(&stats()).unwrap();
        assert!(!paper.text().contains('\x1b'), "there is nothing to replace yet");
        screen.refresh(&stats()).unwrap();
        assert!(
            paper.text().contains("\x1b[4F\x1b[J"),
            "four lines up, then erased"
        );
        screen.summary(&stats()).unwrap();
        assert!(paper.text().ends_with("0 belonged to another user.\n"));
    }

    #[test]
    fn elsewhere_lines_follow_each_other() {
        let paper = Paper::default();
        let mut screen = Screen::new(Box::new(paper.clone()), false, addresses());
        screen.welcome().unwrap();
        screen.refresh(&stats()).unwrap();
        screen.refresh(&stats()).unwrap();
        screen.summary(&stats()).unwrap();
        let text = paper.text();
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("http://127.0.0.1:1/api/models-catalog"), "{text}");
        assert_eq!(text.matches("requests 250").count(), 2, "{text}");
    }
}
