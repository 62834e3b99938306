//! The store, live.
//!
//! What is seen ([`Snapshot`]), what of it is shown ([`app`], driven by keys), and how it looks
//! ([`view`], which follows from the former two alone) are apart. A thread each takes samples, asks for
//! metrics, and waits for keys and for signals; the main one draws what they send.

mod app;
mod once;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use crate::globals::Globals;
use crate::output::{Answer, Failure};
use crate::snapshot::{By, Order, Sampler, Scraper, Snapshot, Tiers, http_url};
use app::{App, Wish};
use clap::Args;
use ratatui::crossterm::event::{self, Event};
use screen::Screen;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, IsTerminal, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use url::Url;

/// So many keys one can scroll through.
const KEYS: usize = 1000;

#[derive(Args)]
pub struct Top {
    /// Seconds between two samples
    #[arg(long, default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// What the keys are sorted by at first
    #[arg(long, value_name = "BY", default_value = "size")]
    sort: By,
    /// Where a client or a node exports metrics (http://HOST:PORT/PATH): shows which tiers answer
    #[arg(long, value_name = "URL", value_parser = http_url)]
    metrics: Option<Url>,
    /// Print one snapshot as plain text, after one interval, and end; --json implies it
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("0.1 to 3600".into()),
    }
}

impl Top {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let order = Order {
            by: self.sort,
            reversed: false,
        };
        let store = globals.watched()?;
        if self.once || globals.json {
            let sampler = Sampler::new(store, &[order], once::KEYS, self.interval);
            return once::run(self, globals, sampler);
        }
        if !stdout().is_terminal() {
            return Err(Failure::Client("stdout is no terminal: add --once".into()));
        }
        let sampler = Sampler::new(store, &[order], KEYS, self.interval);
        let app = App::new(&globals.path, order, no_color());
        match self.live(sampler, app) {
            Ok(None) => Ok(Answer::Yes),
            // As if nobody had caught it; by now the terminal is as it was.
            Ok(Some(signal)) => {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                Ok(Answer::No)
            }
            Err(error) => Err(Failure::Client(format!("the terminal: {error}"))),
        }
    }

    /// Until a key or a signal ends it.
    fn live(&self, sampler: Sampler, mut app: App) -> io::Result<Option<i32>> {
        let (news, incoming) = channel();
        // Before the terminal is changed: from now on a signal no longer ends the process.
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let mut screen = Screen::open()?;
        let (wishes, wished) = channel();
        let interval = self.interval;
        spawn(&news, "signals", |news| send_signals(signals, &news));
        spawn(&news, "keys", |news| send_events(&news));
        spawn(&news, "samples", move |news| {
            send_samples(sampler, interval, &wished, &news);
        });
        if let Some(url) = &self.metrics {
            let scraper = Scraper::new(url.clone());
            spawn(&news, "metrics", move |news| {
                send_tiers(scraper, interval, &news);
            });
        }
        drop(news);
        loop {
            screen.draw(|frame| view::draw(frame, &app))?;
            // All that has come by now is drawn at once.
            let Ok(first) = incoming.recv() else {
                return Ok(None);
            };
            for news in std::iter::once(first).chain(incoming.try_iter()) {
                match news {
                    News::Snapshot(snapshot) => app.show(*snapshot),
                    News::Tiers(tiers) => app.tiers = Some(tiers),
                    News::Signal(signal) => return Ok(Some(signal)),
                    News::Event(event) => match app.on(&event?) {
                        Some(Wish::Quit) => return Ok(None),
                        Some(Wish::Order(order)) => drop(wishes.send(order)),
                        None => {}
                    },
                }
            }
        }
    }
}

/// <https://no-color.org>: set, and not empty.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

enum News {
    Snapshot(Box<Snapshot>),
    Tiers(Result<Tiers, String>),
    Event(io::Result<Event>),
    Signal(i32),
}

/// Threads end when nobody listens any more, or with the process. (A panic in one of them ends that: see
/// [`screen`].)
fn spawn(news: &Sender<News>, name: &str, run: impl FnOnce(Sender<News>) + Send + 'static) {
    let news = news.clone();
    let thread = thread::Builder::new().name(name.into());
    thread
        .spawn(move || run(news))
        .expect("the system starts a thread");
}

fn send_signals(mut signals: Signals, news: &Sender<News>) {
    for signal in signals.forever() {
        if news.send(News::Signal(signal)).is_err() {
            return;
        }
    }
}

fn send_events(news: &Sender<News>) {
    loop {
        let event = event::read();
        let gone = event.is_err();
        if news.send(News::Event(event)).is_err() || gone {
            return;
        }
    }
}

fn send_samples(
    mut sampler: Sampler,
    interval: Duration,
    wished: &Receiver<Order>,
    news: &Sender<News>,
) {
    let mut next = Instant::now();
    while news
        .send(News::Snapshot(Box::new(sampler.sample())))
        .is_ok()
    {
        // A sample that took longer than an interval is followed by a pause all the same.
        next = (next + interval).max(Instant::now() + interval / 2);
        match wished.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(order) => {
                next -= interval;
                sampler.set_order(order);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn send_tiers(mut scraper: Scraper, interval: Duration, news: &Sender<News>) {
    let asked = super::ask::run(async {
        loop {
            if news.send(News::Tiers(scraper.ask().await)).is_err() {
                return Ok(());
            }
            tokio::time::sleep(interval).await;
        }
    });
    if let Err(Failure::Client(error)) = asked {
        let _ = news.send(News::Tiers(Err(error)));
    }
}
