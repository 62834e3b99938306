//! The picture, cell by cell, and the keys.

#[allow(dead_code, reason = "the tests of the command use the rest of it")]
#[path = "../../../tests/support/pty.rs"]
mod pty;

use super::app::{App, Wish};
use super::view::draw;
use crate::snapshot::{By, Order, Sampler, Snapshot, Tiers, Watched};
use erlmcp_shm_client::metrics::{Counts, Metrics};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Kind, Writer};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use std::path::Path;
use std::time::Duration;

const BY_SIZE: Order = Order {
    by: By::Size,
    reversed: false,
};

/// A store of so many entries, the first ones being the largest, and what a sampler sees of it.
fn snapshot(entries: usize) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let writer = Writer::options().size(1 << 20).open(&path).unwrap();
    for n in 0..entries {
        let data = vec![b'x'; 2000 - n];
        let key = format!("file:///some/folder/{n:04}");
        writer
            .put(Kind::Resource, key.as_bytes(), &data, b"{}")
            .unwrap();
    }
    sample(&path)
}

fn sample(path: &Path) -> Snapshot {
    let store = Watched::new(path, Reader::options()).unwrap();
    Sampler::new(store, &[BY_SIZE], 1000, Duration::from_secs(1)).sample()
}

fn app(snapshot: Option<Snapshot>, no_color: bool) -> App {
    let mut app = App::new(Path::new("/dev/shm/a store"), BY_SIZE, no_color);
    if let Some(snapshot) = snapshot {
        app.show(snapshot);
    }
    app
}

fn picture(app: &App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(picture: &Buffer) -> Vec<String> {
    let rows = picture.content.chunks(picture.area.width.into());
    rows.map(|cells| cells.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn press(app: &mut App, code: KeyCode) -> Option<Wish> {
    app.on(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn every_size_has_the_most_important() {
    let tiers = || {
        let latency = hdrhistogram::Histogram::new(3).unwrap();
        Tiers::parse(&Metrics::new(&Counts::new(&latency)).prometheus()).unwrap()
    };
    for tiers in [
        None,
        Some(Ok(tiers())),
        Some(Err("nobody there".to_owned())),
    ] {
        let mut app = app(Some(snapshot(100)), false);
        app.tiers = tiers;
        let small = lines(&picture(&app, 40, 10));
        assert!(small[1].starts_with("writer "), "{small:#?}");
        assert!(small[2].contains("heartbeat "), "{small:#?}");
        assert!(
            small[5].contains("SIZE▼") && small[5].contains("KEY"),
            "{small:#?}"
        );
        assert!(
            small[6].contains("2.0 KiB") && small[6].contains("file:///s"),
            "{small:#?}"
        );
        assert!(small[9].starts_with("?: help  q: quit"), "{small:#?}");
        let large = lines(&picture(&app, 200, 60));
        let keys = large
            .iter()
            .filter(|line| line.contains("file:///some/folder/00"));
        assert!(keys.count() > 50, "{large:#?}");
        assert!(large[59].contains("1 to 100 of 100"), "{large:#?}");
        match &app.tiers {
            None => assert!(!large.iter().any(|line| line.contains("server"))),
            Some(Ok(_)) => assert!(large.iter().any(|line| line.contains("server 0.0 %"))),
            Some(Err(_)) => assert!(
                large
                    .iter()
                    .any(|line| line.contains("metrics nobody there"))
            ),
        }
    }
}

/// Nothing panics, whatever the size, and whatever there is to show.
#[test]
fn no_size_is_too_small() {
    let folder = tempfile::tempdir().unwrap();
    let absent = || sample(&folder.path().join("none"));
    let junk = folder.path().join("junk");
    std::fs::write(&junk, [7; 9000]).unwrap();
    for snapshot in [None, Some(absent()), Some(snapshot(0)), Some(snapshot(3))] {
        for help in [false, true] {
            let mut app = app(snapshot.clone(), false);
            app.help = help;
            for width in (1..10).chain([20, 40, 79]) {
                for height in (1..8).chain([10, 24]) {
                    picture(&app, width, height);
                }
            }
        }
    }
    let text = lines(&picture(&app(Some(absent()), true), 80, 24)).join("\n");
    assert!(
        text.contains("there is no file at the path; waiting for one"),
        "{text}"
    );
    assert!(Watched::new(&junk, Reader::options()).is_err());
}

#[test]
fn colours_only_where_they_are_wanted() {
    let coloured = |no_color| {
        let picture = picture(&app(Some(snapshot(3)), no_color), 100, 20);
        let mut cells = picture.content.into_iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(false));
    assert!(!coloured(true));
}

#[test]
fn keys_scroll_within_what_there_is() {
    let mut app = app(Some(snapshot(25)), false);
    for (code, first) in [
        (KeyCode::Up, 0),
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 11),
        (KeyCode::Char('j'), 12),
        (KeyCode::PageDown, 22),
        (KeyCode::PageDown, 24),
        (KeyCode::Down, 24),
        (KeyCode::Char('k'), 23),
        (KeyCode::PageUp, 13),
        (KeyCode::End, 24),
        (KeyCode::Home, 0),
        (KeyCode::End, 24),
    ] {
        assert_eq!(press(&mut app, code), None);
        assert_eq!(app.first, first, "{code:?}");
    }
    // Fewer keys than before.
    app.show(snapshot(4));
    assert_eq!(app.first, 3);
    let text = lines(&picture(&app, 100, 20)).join("\n");
    assert!(
        text.contains("4 to 4 of 4") && text.contains("/0003"),
        "{text}"
    );
    assert!(!text.contains("/0002"), "{text}");
}

#[test]
fn keys_ask_for_orders_and_for_the_end() {
    let mut app = app(Some(snapshot(3)), false);
    app.first = 2;
    let order = |by, reversed| Some(Wish::Order(Order { by, reversed }));
    assert_eq!(press(&mut app, KeyCode::Char('a')), order(By::Age, false));
    assert_eq!(app.first, 0);
    assert_eq!(press(&mut app, KeyCode::Char('r')), order(By::Age, true));
    assert_eq!(press(&mut app, KeyCode::Char('r')), order(By::Age, false));
    assert_eq!(
        press(&mut app, KeyCode::Char('u')),
        order(By::Updates, false)
    );
    assert_eq!(press(&mut app, KeyCode::Char('s')), order(By::Size, false));
    assert_eq!(press(&mut app, KeyCode::Char('z')), None);
    assert_eq!(press(&mut app, KeyCode::Char('?')), None);
    assert!(app.help);
    // The key that closes the help does nothing else.
    assert_eq!(press(&mut app, KeyCode::Char('a')), None);
    assert!(!app.help && app.order.by == By::Size);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Wish::Quit));
    assert_eq!(app.on(&Event::Resize(3, 3)), None);
}

/// Here rather than with the other tests in terminals: no key makes the command panic.
mod in_a_terminal {
    use super::super::screen::Screen;
    use super::pty::Pty;
    use std::process::Command;

    /// No test: what the one below runs in a terminal.
    #[test]
    #[ignore = "what another test starts as a process"]
    fn panics() {
        let mut screen = Screen::open().unwrap();
        screen
            .draw(|frame| frame.render_widget("ready", frame.area()))
            .unwrap();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let thread = std::thread::spawn(|| panic!("as it was told"));
        let _ = thread.join();
        unreachable!("a panic of any thread ends the process");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_told() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("{}::panics", module_path!().split_once("::").unwrap().1);
        command.args(["--exact", &name, "--ignored", "--nocapture"]);
        let mut pty = Pty::start(&command, 80, 24);
        pty.until_shown("ready");
        pty.assert_taken();
        pty.press("\r\n");
        assert_eq!(pty.end().code(), Some(101));
        pty.assert_restored();
        assert!(pty.text().contains("as it was told"), "{}", pty.text());
    }
}
