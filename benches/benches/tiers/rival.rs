//! rmcp's own cache of responses against the tiers: same server, same reads. What a hit costs, what 8 processes take
//! that have read everything, and what is read after a change.

use crate::server::{Tcp, bare};
use crate::setting::{Setting, contents, edition, histogram, roomy, runtime, table, text, time};
use erlmcp_shm_client::{HybridClient, Options, Revision, Route};
use erlmcp_shm_reader::{Kind, Reader};
use hdrhistogram::Histogram;
use rmcp::RoleClient;
use rmcp::model::{ReadResourceRequestParams, SubscriptionFilter};
use rmcp::service::{ClientCacheConfig, RunningService};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KEYS: usize = 10_000;
const PROCESSES: usize = 8;
const READS: usize = 200_000;
/// How long the server lets its answers be kept.
const TTL: Duration = Duration::from_secs(60);
/// The same where it is to run out.
const SHORT_TTL: Duration = Duration::from_secs(1);
const CHANGES: usize = 5;
/// A resource that is not in shared memory.
const ELSEWHERE: &str = "dynamic://elsewhere";

/// Who reads.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Connected, and reads nothing.
    Idle,
    Rmcp,
    /// All tiers, with room for everything in the first.
    Tiers,
    /// The first tier holds nothing.
    SharedOnly,
}

const WAYS: [(Way, &str, &str); 4] = [
    (Way::Idle, "idle", "connected to both, nothing read"),
    (Way::Rmcp, "rmcp", "rmcp's cache, room for 10,000"),
    (Way::Tiers, "tiers", "the tiers, room for 10,000 in L1"),
    (Way::SharedOnly, "l2", "the tiers, L1 off"),
];

enum Who {
    Rmcp(RunningService<RoleClient, ()>),
    Tiers(HybridClient),
}

impl Way {
    async fn start(self, address: SocketAddr, shm: Reader) -> Who {
        if self == Way::Rmcp {
            let service = bare(address).await;
            let config = ClientCacheConfig::default().with_max_entries(KEYS);
            service.peer().set_response_cache_config(config).await;
            return Who::Rmcp(service);
        }
        let mut options = roomy();
        if self == Way::SharedOnly {
            options.l1_bytes = 0;
        }
        Who::Tiers(tiers(address, shm, options))
    }
}

fn tiers(address: SocketAddr, shm: Reader, options: Options) -> HybridClient {
    let revision = Revision::Stateless;
    let route = Route {
        kind: erlmcp_shm_client::config::TransportKind::Http,
        connect: Box::new(Tcp { address, revision }),
        priority: 5,
    };
    HybridClient::new(Some(shm), vec![route], options)
}

impl Who {
    /// Reads a resource: its edition, which touches it.
    async fn read(&self, uri: &str) -> usize {
        match self {
            Who::Rmcp(service) => {
                let read = service
                    .peer()
                    .read_resource(ReadResourceRequestParams::new(uri));
                edition(contents(&read.await.expect("it is there")))
            }
            Who::Tiers(client) => {
                let read = client.read_resource(uri).await;
                edition(contents(&read.expect("it is there")))
            }
        }
    }
}

pub fn run() {
    let setting = Setting::new(KEYS, KEYS);
    *setting.server.world.ttl.lock().expect("not poisoned") = TTL;
    let mut rows = vec![];
    for (way, name, what) in WAYS {
        let (p50, p99) = match way {
            Way::Idle => (String::new(), String::new()),
            _ => {
                let times = latency(&setting, way);
                let at = |q| time(times.value_at_quantile(q) as f64);
                (at(0.5), at(0.99))
            }
        };
        let (resident, proportional) = memory(&setting, name);
        let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
        rows.push(vec![
            what.to_owned(),
            p50,
            p99,
            mib(resident),
            mib(proportional),
        ]);
    }
    table(
        "10,000 resources of 1 KiB | a hit, p50 | p99 | Rss of 8 processes | Pss",
        &rows,
    );
    staleness(&setting);
}

/// Times of single hits, everything having been read before.
fn latency(setting: &Setting, way: Way) -> Histogram<u64> {
    let order = setting.store.uniform(READS);
    let mut times = histogram();
    runtime().block_on(async {
        let who = way
            .start(setting.server.address, setting.store.reader.clone())
            .await;
        for uri in &setting.uris {
            who.read(uri).await;
        }
        for i in order {
            let begun = Instant::now();
            who.read(&setting.uris[i]).await;
            times.saturating_record(begun.elapsed().as_nanos() as u64);
        }
    });
    times
}

/// A process that reads everything, says so, and stays until its input ends.
pub fn process(name: &str, address: &str, path: &str) {
    let (way, ..) = *WAYS.iter().find(|way| way.1 == name).expect("a way");
    let address = address.parse().expect("an address");
    runtime().block_on(async {
        let who = way
            .start(address, Reader::open(path).expect("filled"))
            .await;
        let count = if way == Way::Idle { 0 } else { KEYS };
        for i in 0..count {
            who.read(&crate::setting::uri(i)).await;
        }
        if let Who::Tiers(client) = &who {
            client.probe().await;
        }
        println!("ready");
        let _ = std::io::stdin().lines().next();
    });
}

/// What so many processes take together, in KiB: each one's resident pages, and these shared out.
fn memory(setting: &Setting, name: &str) -> (u64, u64) {
    let start = |_| {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["process", name, &setting.server.address.to_string()])
            .arg(&setting.store.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run again")
    };
    let mut children: Vec<Child> = (0..PROCESSES).map(start).collect();
    for child in &mut children {
        let output = child.stdout.as_mut().expect("piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
    }
    let sums = children.iter().map(|child| {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", child.id()));
        let rollup = std::fs::read_to_string(path).expect("it lives");
        let figure = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let figure = line.and_then(|line| line.split_whitespace().next());
            figure.expect("a figure").parse().expect("a number")
        };
        (figure("Rss:"), figure("Pss:"))
    });
    let sums = sums.fold((0, 0), |sums, (rss, pss)| (sums.0 + rss, sums.1 + pss));
    for mut child in children {
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
    sums
}

/// Reads one resource over and over while it changes at the server, and in shared memory where that is read.
fn staleness(setting: &Setting) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build();
    let mut rows = vec![];
    runtime.expect("threads").block_on(async {
        let address = setting.server.address;
        let shm = || setting.store.reader.clone();
        let uri = setting.uris[0].as_str();
        setting.server.world.update(ELSEWHERE, text(0, 0));
        let filter = || SubscriptionFilter::builder().resource_subscriptions([uri.to_owned()]);
        // First, while nobody has subscribed to it, whom the server would be telling meanwhile.
        let all = Way::Tiers.start(address, shm()).await;
        rows.push(changes(setting, "the tiers, published", uri, &all).await);
        *setting.server.world.ttl.lock().expect("not poisoned") = SHORT_TTL;
        let rmcp = Way::Rmcp.start(address, shm()).await;
        rows.push(changes(setting, "rmcp's cache, ttlMs 1000", uri, &rmcp).await);
        *setting.server.world.ttl.lock().expect("not poisoned") = TTL;
        let rmcp = Way::Rmcp.start(address, shm()).await;
        let Who::Rmcp(service) = &rmcp else {
            unreachable!("as it was started")
        };
        let _stream = service
            .peer()
            .listen(filter().build())
            .await
            .expect("a stream");
        rows.push(changes(setting, "rmcp's cache, subscribed", uri, &rmcp).await);
        let options = || Options {
            l1_ttl: TTL,
            ..roomy()
        };
        let server_only = tiers(address, shm(), options());
        server_only.subscribe(ELSEWHERE);
        let server_only = Who::Tiers(server_only);
        let what = "the tiers, not published, subscribed";
        rows.push(changes(setting, what, ELSEWHERE, &server_only).await);
    });
    table(
        "after a change | old answers, median | the new one after, median | at most",
        &rows,
    );
}

/// How many old answers there are after a change is complete, and how long until the new one.
async fn changes(setting: &Setting, what: &str, uri: &str, who: &Who) -> Vec<String> {
    let mut old = vec![];
    let mut took = vec![];
    who.read(uri).await;
    // A subscription has to reach the server.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..CHANGES {
        let before = who.read(uri).await;
        let new = text(0, before + 1);
        if uri != ELSEWHERE {
            let writer = &setting.store.writer;
            let put = writer.put(Kind::Resource, uri.as_bytes(), new.as_bytes(), b"{}");
            put.expect("room");
        }
        setting.server.world.update(uri, new);
        let begun = Instant::now();
        let mut stale = 0;
        while who.read(uri).await == before {
            stale += 1;
            // An answer from the process never waits: what the server says needs its turn.
            tokio::task::yield_now().await;
        }
        took.push(begun.elapsed().as_nanos() as f64);
        old.push(stale);
    }
    old.sort_unstable();
    took.sort_by(f64::total_cmp);
    let (median, most) = (took[CHANGES / 2], took[CHANGES - 1]);
    vec![
        what.to_owned(),
        old[CHANGES / 2].to_string(),
        time(median),
        time(most),
    ]
}
