//! Reads without end, while the node is killed and started anew by somebody else.
//!
//! The node counts: each key holds a counter and what follows from key and counter, and in a file stands, for each
//! key, up to where its exports have returned. What is read must be whole, of its key, and no older than what stood in
//! that file before the read began. Calls have a number each, which the node writes down when it carries one out.

use super::name_of;
use erlmcp_shm_client::{Answer, CacheMode, ClientError, HybridClient, Tier};
use rmcp::model::ReadResourceResult;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KEYS: u64 = 4;

#[derive(Default)]
struct Tally {
    reads: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    wrong: Vec<String>,
    /// Calls that were answered.
    called: Vec<u64>,
    /// When the server did not answer any more, and when it did again.
    turns: Vec<(bool, u64)>,
    longest: Duration,
}

pub async fn read_on(client: &HybridClient, acknowledged: &Path, seconds: u64) -> Value {
    let acknowledged = File::open(acknowledged).expect("the node has written it");
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tally = Tally::default();
    let mut up = true;
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        let key = round % KEYS;
        let uri = format!("count:{key}");
        let started = Instant::now();
        let floor = floor(&acknowledged, key);
        let near = client.read_resource(&uri).await;
        tally.counted(key, floor, near);
        let server = client.request().cache(CacheMode::Bypass);
        let far = server.read_resource(&uri).await;
        // Only connections and answers count: what refuses is up.
        let is_up = far.is_ok();
        tally.counted(key, floor, far);
        if up != is_up {
            up = is_up;
            tally.turns.push((up, now_us()));
        }
        let number = json!({ "number": round });
        match client.call_tool("once", number.as_object().cloned()).await {
            Ok(_) => tally.called.push(round),
            Err(error) => tally.failed("call_tool", &error),
        }
        tally.longest = tally.longest.max(started.elapsed());
        if !up {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    json!({ "ok": {
        "reads": tally.reads,
        "errors": tally.errors,
        "wrong": tally.wrong,
        "called": tally.called,
        "turns": tally.turns,
        "longest_us": tally.longest.as_micros() as u64,
    }})
}

impl Tally {
    fn counted(
        &mut self,
        key: u64,
        floor: u64,
        answer: Result<Answer<ReadResourceResult>, ClientError>,
    ) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed("read_resource", &error),
        };
        let tier = match answer.tier() {
            Tier::L1 => "L1",
            Tier::L2 => "L2",
            Tier::L3 => "L3",
        };
        *self.reads.entry(tier.to_owned()).or_default() += 1;
        let content = serde_json::to_value(&answer.contents).unwrap_or_default();
        let text = content[0]["text"].as_str().unwrap_or_default();
        if let Err(why) = check(text, key, floor) {
            self.wrong.push(format!("{tier}: {why}"));
        }
    }

    fn failed(&mut self, what: &str, error: &ClientError) {
        let name = format!("{what}: {}", name_of(error));
        *self.errors.entry(name).or_default() += 1;
    }
}

/// `KEY COUNTER` and as many dots as the counter says.
fn check(text: &str, key: u64, floor: u64) -> Result<(), String> {
    let mut words = text.split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (Some(found), Some(counter)) = (number(), number()) else {
        return Err(format!("{text:?} is no value"));
    };
    let dots = words.next().unwrap_or_default();
    let expected = ".".repeat((counter % 1000) as usize);
    if found != key || dots != expected || words.next().is_some() {
        return Err(format!("torn or foreign: {text:?} for {key}"));
    }
    match counter < floor {
        true => Err(format!("{counter} of {key}, after {floor} was there")),
        false => Ok(()),
    }
}

/// How far the exports of a key had returned, at least.
fn floor(acknowledged: &File, key: u64) -> u64 {
    let mut bytes = [0; 8];
    match acknowledged.read_exact_at(&mut bytes, key * 8) {
        Ok(()) => u64::from_be_bytes(bytes),
        Err(_) => 0,
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
