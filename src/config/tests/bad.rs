//! Single values that are refused: where it is said to be, and what is said.

use super::{refused, route, upstream, with_route};

#[test]
fn parts_of_a_route() {
    for (line, expected) in IN_A_ROUTE {
        refused(&route(&format!("{line}\nupstream: hub")), &[expected]);
    }
}

#[test]
fn parts_of_an_upstream() {
    for (content, expected) in IN_AN_UPSTREAM {
        let (position, rest) = expected.split_once(' ').unwrap();
        refused(&upstream(content), &[format!("{position} upstreams.hub.{rest}")]);
    }
}

#[test]
fn other_sections() {
    for (line, expected) in AT_THE_TOP {
        refused(&with_route(line), &[expected]);
    }
}

/// Lines that stand in line 6 from column 5 on, below `name: r`.
const IN_A_ROUTE: &[(&str, &str)] = &[
    (
        "stream: {terminal: END}",
        "6:24 routes[0].stream.terminal: `END` is not a line of an event | `data: TEXT` or `event: NAME`, in \
             quotes; up to 128 bytes behind the colon",
    ),
    (
        "usage: {json: {model: /m}}",
        "6:13 routes[0].usage.json: it is not said where the counts are | `{input: /usage/input, output: \
             /usage/output}`",
    ),
    (
        "usage: {json: {input: usage.in}}",
        "6:27 routes[0].usage.json.input: `usage.in` is not a JSON pointer | did you mean `/usage/in`?",
    ),
    (
        "cache: {tags: {json: [/model]}}",
        "6:20 routes[0].cache.tags.json: the request body is not part of the key | cache `POST` or \
             `QUERY`, or say `vary: {body: {}}`",
    ),
    (
        "cache: {ttl: {206: 1s}}",
        "6:19 routes[0].cache.ttl.206: a response with status 206 is never stored",
    ),
    (
        "cache: {ttl: {adaptive: {min: 2s, max: 1s}}}",
        "6:44 routes[0].cache.ttl.adaptive.max: `max` is less than `min`",
    ),
    (
        "cache: {ttl: {adaptive: {min: 2s}}}",
        "6:19 routes[0].cache.ttl.adaptive.max: `max` is missing",
    ),
    (
        "cache: {ttl: {adaptive: {min: 0s, max: 1s}}}",
        "6:35 routes[0].cache.ttl.adaptive.min: the duration must be more than zero",
    ),
    (
        "cache: {ttl: {adaptive: {min: 1s, max: 1s}, 404: 1s}}",
        "6:13 routes[0].cache.ttl: `adaptive` and lives by status exclude each other",
    ),
    (
        "cache: {refresh_ahead: {beta: 0}}",
        "6:35 routes[0].cache.refresh_ahead.beta: `0` is no such factor | more than 0, at most 1000",
    ),
    (
        "prioritty: batch",
        "6:5 routes[0].prioritty: unknown key `prioritty` | did you mean `priority`?",
    ),
    (
        "color: red",
        "6:5 routes[0].color: unknown key `color` | one of `name`, `match`, `upstream`, `priority`, \
             `rate_limit`, `timeouts`, `cache`, `stream`, `usage`, `headers`",
    ),
    (
        "match: {path: api}",
        "6:19 routes[0].match.path: the path `api` does not begin with `/` | did you mean `/api`?",
    ),
    (
        "match: {path: /a, path_prefix: /b}",
        "6:36 routes[0].match.path_prefix: `path` and `path_prefix` exclude each other | make two \
             routes of it",
    ),
    (
        "match: {path: /a?b}",
        "6:19 routes[0].match.path: the path `/a?b` has a query | routes look at the path only; \
             `cache.vary.query` says which parameters count",
    ),
    (
        "match: {path_template: /a/b}",
        "6:28 routes[0].match.path_template: the template `/a/b` has no parameter | use `path`",
    ),
    (
        "match: {path_regex: '('}",
        "6:25 routes[0].match.path_regex: the regular expression does not compile: unclosed group",
    ),
    (
        "match: {hosts: ['hub:80']}",
        "6:21 routes[0].match.hosts[0]: `hub:80` is not a host | without a port or a scheme: did you \
             mean `hub`?",
    ),
    (
        "match: {hosts: [a.*.b]}",
        "6:21 routes[0].match.hosts[0]: `a.*.b` is not a host pattern | a `*` stands only for the \
             first labels: `*.hub.local`",
    ),
    (
        "match: {methods: [get]}",
        "6:23 routes[0].match.methods[0]: `get` is not a method that can be routed | did you mean \
             `GET`?",
    ),
    (
        "match: {headers: {'x y': a}}",
        "6:23 routes[0].match.headers[\"x y\"]: `x y` is not a header name | letters, digits and \
             `-`, without the colon",
    ),
    (
        "match: {headers: {x-version: 1.0}}",
        "6:34 routes[0].match.headers.x-version: expected text (header value), found a number | put \
             it in quotes",
    ),
    (
        "match: 5",
        "6:12 routes[0].match: expected a map, found the number `5`",
    ),
    (
        "match: [path, /x]",
        "6:5 routes[0].match: expected a map, found a list",
    ),
    (
        "cache: {ttl: 300}",
        "6:18 routes[0].cache.ttl: `300` is not a duration | say the unit: `300s`, `300ms`, `300m`",
    ),
    (
        "cache: {ttl: {abc: 3s}}",
        "6:19 routes[0].cache.ttl.abc: `abc` is not a final status | 200 to 599",
    ),
    (
        "cache: {mode: sometimes}",
        "6:19 routes[0].cache.mode: unknown value `sometimes` | one of `on`, `off`, `read_only`, \
             `write_only`",
    ),
    (
        "cache: {methods: [PUT]}",
        "6:23 routes[0].cache.methods[0]: responses to `PUT` cannot be cached | one of `GET`, \
             `HEAD`, `POST`, `QUERY`",
    ),
    (
        "cache: {methods: []}",
        "6:13 routes[0].cache.methods: `methods` is empty | `mode: \"off\"` switches the cache off",
    ),
    (
        "cache: {max_object: 64Mi}",
        "6:25 routes[0].cache.max_object: `64Mi` is not a size | did you mean `64MiB`?",
    ),
    (
        "cache: {max_object: 9MiB}",
        "6:25 routes[0].cache.max_object: one entry cannot be larger than the level's `max_object` \
             of 8MiB",
    ),
    (
        "cache: {vary: {query: {include: ['[']}}}",
        "6:38 routes[0].cache.vary.query.include[0]: the glob `[` is not valid: unclosed character \
             class; missing ']'",
    ),
    (
        "cache: {vary: {principal: {}}}",
        "6:20 routes[0].cache.vary.principal: it is not said where the principal is found | `true`, \
             `{header: x-user-id}` or `{cookie: sid}`",
    ),
    (
        "cache: {vary: {body: {json: {ignore: [user]}}}}",
        "6:43 routes[0].cache.vary.body.json.ignore[0]: `user` is not a JSON pointer | did you mean \
             `/user`?",
    ),
    (
        "cache: {share: everyone}",
        "6:20 routes[0].cache.share: unknown value `everyone` | one of `principal`, `all`, `tenant`",
    ),
    (
        "cache: {share: {tenant: {}}}",
        "6:21 routes[0].cache.share.tenant.header: `header` is missing",
    ),
    (
        "cache: {share: {tenants: {header: x}}}",
        "6:21 routes[0].cache.share.tenants: unknown value `tenants` | did you mean `tenant`?",
    ),
    (
        "cache: {collapse: 'yes'}",
        "6:23 routes[0].cache.collapse: unknown value `yes` | `true`, `false` or `fleet`",
    ),
    (
        "cache: {collapse: fleet}",
        "6:23 routes[0].cache.collapse: replicas agree in a Redis level, and there is none | add a level `redis: {name: .., url: ..}` to `cache.levels`, or write `true`",
    ),
    (
        "cache:",
        "6:11 routes[0].cache: no value is given | give one (`{}` for all defaults), or remove the key",
    ),
    (
        "timeouts: {total: 0s}",
        "6:23 routes[0].timeouts.total: the duration must be more than zero",
    ),
    (
        "headers: {request: {set: {Connection: close}}}",
        "6:43 routes[0].headers.request.set.Connection: `connection` belongs to the connection and \
             cannot be changed",
    ),
    (
        "headers: {response: {remove: [transfer-encoding]}}",
        "6:35 routes[0].headers.response.remove[0]: `transfer-encoding` belongs to the connection \
             and cannot be changed",
    ),
    (
        "headers: {response: {set: {x-a: \"a\\nb\"}}}",
        "6:37 routes[0].headers.response.set.x-a: not a header value | visible ASCII characters and \
             spaces, no space at either end, one line",
    ),
    (
        "name: again",
        "6:5 routes[0].name: the key `name` is given twice | the first is in line 5",
    ),
];

/// Contents of an upstream; paths are below it.
const IN_AN_UPSTREAM: &[(&str, &str)] = &[
    (
        "",
        "2:3 endpoints: `endpoints` is missing | give one, like `- {address: \"127.0.0.1:8000\"}`",
    ),
    (
        "endpoints: []",
        "2:9 endpoints: `endpoints` is empty | give one, like `- {address: \"127.0.0.1:8000\"}`",
    ),
    (
        "endpoints: [{address: 'http://hub:80/'}]",
        "2:31 endpoints[0].address: `http://hub:80/` is not a host and port | leave out the scheme: \
             `hub:80`; `tls: {}` in the upstream switches TLS on",
    ),
    (
        "endpoints: [{address: a:1, weight: 0}]",
        "2:44 endpoints[0].weight: expected a whole number from 1 to 1000, found the number `0`",
    ),
    (
        "endpoints: [{address: a:1}, {address: 'A:1'}]",
        "2:47 endpoints[1].address: `a:1` is already used by upstreams.hub.endpoints[0]",
    ),
    (
        "ENDPOINT, balance: random",
        "2:47 balance: unknown value `random` | one of `round_robin`, `ketama`, `least_request`, \
             `p2c_ewma`",
    ),
    (
        "ENDPOINT, hash_on: key",
        "2:47 hash_on: `hash_on` has no effect without `balance: ketama`",
    ),
    (
        "ENDPOINT, balance: ketama, hash_on: cookie",
        "2:64 hash_on: `cookie` needs a value: `cookie: ...`",
    ),
    (
        "ENDPOINT, health: {active: {interval: 1s}}",
        "2:47 health.active: the check does not say what to ask | give `http: {path: /healthz}` or \
             `tcp: {}`",
    ),
    (
        "ENDPOINT, health: {active: {http: {path: /}, tcp: {}}}",
        "2:73 health.active.tcp: `http` and `tcp` exclude each other",
    ),
    (
        "ENDPOINT, health: {active: {http: {path: /, status: [600]}}}",
        "2:81 health.active.http.status[0]: `600` is not a range of statuses | like `200`, `200-299` \
             or `2xx`",
    ),
    (
        "ENDPOINT, retry: {on: []}",
        "2:46 retry.on: `on` is empty | `attempts: 1` switches retries off",
    ),
    (
        "ENDPOINT, concurrency: lots",
        "2:51 concurrency: expected `off` or a map, found the text `lots`",
    ),
    (
        "ENDPOINT, timeouts: {firstByte: 1s}",
        "2:49 timeouts.firstByte: unknown key `firstByte` | did you mean `first_byte`?",
    ),
    (
        "ENDPOINT, pool: {max_idle: -1}",
        "2:55 pool.max_idle: expected a whole number from 0 to 1000000, found the number `-1`",
    ),
];

/// Lines that stand in line 5.
const AT_THE_TOP: &[(&str, &str)] = &[
    (
        "version: 2",
        "5:10 version: version 2 of the format is not known | this build reads version 1",
    ),
    (
        "workers: 0",
        "5:10 workers: `0` is not a number of workers | `auto`, or 1 to 512",
    ),
    (
        "admin: {bind: ':9901'}",
        "5:15 admin.bind: `:9901` is not an address to bind | did you mean `0.0.0.0:9901`?",
    ),
    (
        "admin: {tokens: [{name: a, role: viewer, sha256_file: x}]}",
        "5:55 admin.tokens[0].sha256_file: cannot read /nonexistent/x: No such file or directory (os \
             error 2)",
    ),
    (
        "admin: {bind: '${NO_SUCH}'}",
        "5:15 admin.bind: the environment variable `NO_SUCH` is not set | set it, or give a default: \
             `${NO_SUCH:-...}`",
    ),
    (
        "cache: {levels: [memory: {}, memory: {name: l2}]}",
        "5:30 cache.levels[1].memory: there is a memory level already | one is enough: give it a larger `capacity`",
    ),
    (
        "cache: {levels: [disk: {path: /x}]}",
        "5:18 cache.levels[0]: the first level is not in memory | put `- memory: {}` before it",
    ),
    (
        "cache: {levels: [memory: {}, disk: {name: l2}]}",
        "5:30 cache.levels[1].disk.path: `path` is missing",
    ),
    (
        "cache: {levels: [memory: {}, disk: {path: /x, capacity: 1MiB}]}",
        "5:57 cache.levels[1].disk.capacity: a level on disk has at least 16MiB",
    ),
    (
        "cache: {levels: [memory: {name: a}, disk: {path: /x, name: a}]}",
        "5:60 cache.levels[1].disk.name: `a` is already used by cache.levels[0].memory",
    ),
    (
        "cache: {levels: [memory: {}, disk: {path: /x}, disk: {path: /x, name: other}]}",
        "5:61 cache.levels[2].disk.path: the level `disk` is in this directory",
    ),
    (
        "cache: {levels: [memory: {}, disk: {path: /x, size: 1GiB}]}",
        "5:47 cache.levels[1].disk.size: unknown key `size` | one of `name`, `path`, `capacity`, `encrypt`",
    ),
    (
        "cache: {levels: [{memory: {capacity: 1KiB}}]}",
        "5:38 cache.levels[0].memory.capacity: a level has at least 1MiB",
    ),
    (
        "cache: {levels: [{memory: {capacity: 200%}}]}",
        "5:38 cache.levels[0].memory.capacity: `200%` is more than the whole | a share is `0%` to \
             `100%`, or a fraction from 0 to 1",
    ),
    (
        "cache: {levels: [ram]}",
        "5:18 cache.levels[0]: unknown value `ram` | one of `memory`, `disk`, `redis`",
    ),
    (
        "cache: {levels: [memory]}",
        "5:18 cache.levels[0]: `memory` needs a value: `memory: ...`",
    ),
    (
        "telemetry: {otlp: {endpoint: 'collector:4317'}}",
        "5:30 telemetry.otlp.endpoint: not an `http://` or `https://` URL | like \
             `http://collector:4317`",
    ),
    (
        "telemetry: {otlp: {}}",
        "5:13 telemetry.otlp.endpoint: `endpoint` is missing",
    ),
    (
        "usage: {prices: {m: {output: 1}}}",
        "5:18 usage.prices.m.input: `input` is missing",
    ),
    (
        "usage: {prices: {m: {input: -1}}}",
        "5:29 usage.prices.m.input: `-1` is not a price | dollars per million tokens, from 0 to 1000000",
    ),
    (
        "usage: {prices: {m: {input: 1, cached_input: .nan}}}",
        "5:46 usage.prices.m.cached_input: `NaN` is not a price | dollars per million tokens, from 0 to \
             1000000",
    ),
    (
        "telemetry: {history: {raw: 59s}}",
        "5:28 telemetry.history.raw: is between 1m and 1h",
    ),
    (
        "telemetry: {history: {minute: 59m}}",
        "5:31 telemetry.history.minute: is between 1h and 31d",
    ),
    (
        "telemetry: {history: {hour: 401d}}",
        "5:29 telemetry.history.hour: is between 1d and 400d",
    ),
    (
        "telemetry: {history: {minute: 31d, hour: 30d}}",
        "5:42 telemetry.history.hour: is shorter than `minute` | hours are what is left of older minutes",
    ),
    (
        "telemetry: {history: {max_size: 15MiB}}",
        "5:33 telemetry.history.max_size: is between 16MiB and 16GiB",
    ),
    ("telemetry: [1]", "5:1 telemetry: expected a map, found a list"),
    ("telemetry: *x", "5:12 : unknown anchor"),
    (
        "upstream: {}",
        "5:1 upstream: unknown key `upstream` | did you mean `upstreams`?",
    ),
];
