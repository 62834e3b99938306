//! Very many clients of one node, each of which subscribes to a resource and reads it whenever it hears that it changed.
//!
//! The resource holds a counter that only rises. A client that hears of changes late or of several at once finds the
//! newest all the same, so what one reads never falls, and ends with the last.

use erlmcp_shm_client::{CacheMode, Change, Changes, Config, HybridClient, Notice};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Barrier, Semaphore};

/// What one client saw.
#[derive(Default)]
struct Seen {
    notices: u64,
    gaps: u64,
    reads: u64,
    failed: u64,
    fell: u64,
    last: u64,
}

/// Says when all are connected and subscribed, and lets them read for so long; then waits until each has seen the value
/// that stands there at the end.
pub async fn gather(
    config: &Config,
    clients: u64,
    uri: &str,
    seconds: u64,
) -> Result<Value, Box<dyn std::error::Error>> {
    let ready = Arc::new(Barrier::new(clients as usize + 1));
    let over = Arc::new(AtomicBool::new(false));
    // All at once would be more than a listener lets wait to be accepted.
    let door = Arc::new(Semaphore::new(16));
    let mut crowd = Vec::new();
    for _ in 0..clients {
        let client = HybridClient::from_config(config)?;
        let (uri, ready, over) = (uri.to_owned(), Arc::clone(&ready), Arc::clone(&over));
        let door = Arc::clone(&door);
        crowd.push(tokio::spawn(async move {
            let mut seen = Seen::default();
            client.subscribe(&uri);
            let mut changes = client.changes();
            {
                let _entering = door.acquire().await;
                look(&client, &uri, &mut seen).await;
            }
            ready.wait().await;
            listen(&client, &uri, &mut changes, &over, &mut seen).await;
            seen
        }));
    }
    let started = Instant::now();
    ready.wait().await;
    println!("{}", json!({ "ok": started.elapsed().as_millis() as u64 }));
    std::io::stdout().flush()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in crowd {
        all.push(client.await?);
    }
    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    let mut reads: Vec<u64> = all.iter().map(|seen| seen.reads).collect();
    reads.sort_unstable();
    Ok(json!({ "ok": {
        "notices": sum(|seen| seen.notices),
        "gaps": sum(|seen| seen.gaps),
        "reads": sum(|seen| seen.reads),
        "failed": sum(|seen| seen.failed),
        "fell": sum(|seen| seen.fell),
        "fewest_reads": reads.first(),
        "median_reads": reads.get(reads.len() / 2),
        "most_reads": reads.last(),
        "last": all.iter().map(|seen| seen.last).collect::<Vec<_>>(),
    }}))
}

/// Looks whenever it hears of a change, until it is over and nothing more is heard.
async fn listen(
    client: &HybridClient,
    uri: &str,
    changes: &mut Changes,
    over: &AtomicBool,
    seen: &mut Seen,
) {
    /// Long enough to have heard all there was.
    const SILENCE: Duration = Duration::from_secs(5);
    loop {
        match tokio::time::timeout(SILENCE, changes.next()).await {
            Ok(Some(Change::Server(Notice::ResourceUpdated(_)))) => {
                seen.notices += 1;
                look(client, uri, seen).await;
            }
            // Anything may have changed unheard.
            Ok(Some(Change::Server(Notice::Gap) | Change::Missed(_))) => {
                seen.gaps += 1;
                look(client, uri, seen).await;
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(_) if over.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

async fn look(client: &HybridClient, uri: &str, seen: &mut Seen) -> bool {
    let request = client.request().cache(CacheMode::Bypass);
    let request = request.timeout(Duration::from_secs(30));
    let Ok(answer) = request.read_resource(uri).await else {
        seen.failed += 1;
        return false;
    };
    let content = serde_json::to_value(&answer.contents).unwrap_or_default();
    let counter = content[0]["text"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let Some(counter) = counter else {
        seen.failed += 1;
        return false;
    };
    seen.reads += 1;
    seen.fell += u64::from(counter < seen.last);
    seen.last = counter;
    true
}
