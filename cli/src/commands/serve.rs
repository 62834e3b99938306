//! Figures for Prometheus and a page for people, read from the file alone: they are there while the writer is
//! dead, and say so.
//!
//! One thread answers one request after the other; each connection carries one. Only what is safe is answered:
//! GET and HEAD, and requests that name us by an address, as `localhost` or by an allowed name. (A page from
//! elsewhere whose name was made to point here, DNS rebinding, bears its own.)

mod listen;
mod page;
mod site;

use super::ask;
use crate::globals::Globals;
use crate::output::{Answer, Failure, say, shown};
use clap::Args;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use site::Site;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};

/// Within this long a request must have come and its answer gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Others wait.
const CONNECTIONS: usize = 64;
/// How often the counters are noted, for rates and ages.
const NOTED_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Serve {
    /// Where to listen: a port alone is one of 127.0.0.1, an address alone has port 9465
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9465", value_parser = listen::parse)]
    listen: SocketAddr,
    /// Answer those who ask for this host too, and not only for addresses and localhost
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

impl Serve {
    /// Until it is killed.
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let site = Site::new(globals.watched()?, NOTED_EVERY, self.allow_host.clone());
        ask::run(self.serve(globals, Arc::new(site)))
    }

    async fn serve(&self, globals: &Globals, site: Arc<Site>) -> Result<Answer, Failure> {
        let failed = |error| Failure::Client(format!("cannot listen on {}: {error}", self.listen));
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        say(format_args!(
            "serving {} at http://{address}/ and http://{address}/metrics",
            shown(&globals.path)
        ));
        let noting = Arc::clone(&site);
        tokio::spawn(async move {
            let mut ticks = interval(NOTED_EVERY);
            loop {
                ticks.tick().await;
                noting.note();
            }
        });
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&connections).acquire_owned().await;
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors, say. That may pass.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                answer(&site, stream).await;
                drop(place);
            });
        }
    }
}

/// Whoever does not wait for the answer, or takes no notice of it, does no harm but to himself.
async fn answer(site: &Site, stream: TcpStream) {
    let service = service_fn(async |request| Ok::<_, Infallible>(site.answer(&request)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(PATIENCE, connection).await;
}
