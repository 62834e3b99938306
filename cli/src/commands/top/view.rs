//! The picture, on terminals of any size.

use super::app::App;
use crate::facts::{Fact, Tone, age, facts, per_second};
use crate::key::escaped;
use crate::output::{grouped, scaled};
use crate::snapshot::{By, Snapshot};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

/// Lines that the keys shall have, whatever becomes of the figures.
const LEAST_KEYS: u16 = 4;
/// Between two figures.
const GAP: usize = 3;

pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let facts = facts(app.snapshot.as_ref(), app.tiers.as_ref());
    let mut lines = flow(&facts, area.width.into(), app.no_color);
    let room = area.height.saturating_sub(2 + LEAST_KEYS).max(1);
    lines.truncate(room.into());
    let [title, figures, keys, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(lines.len() as u16),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(bar(format!("erlmcp-shm top  {}", app.path)), title);
    frame.render_widget(Paragraph::new(lines), figures);
    if let Some(snapshot) = &app.snapshot {
        frame.render_widget(table(app, snapshot, keys), keys);
    }
    frame.render_widget(bar(footer_text(app, area.width)), footer);
    if app.help {
        help(frame, area);
    }
}

fn bar(text: String) -> Paragraph<'static> {
    Paragraph::new(text).style(Modifier::REVERSED)
}

fn footer_text(app: &App, width: u16) -> String {
    let mut text = match width {
        0..70 => "?: help  q: quit".to_owned(),
        _ => "s: size  a: age  u: updates  r: reverse  ?: help  q: quit".to_owned(),
    };
    if let Some(Snapshot { keys, .. }) = &app.snapshot {
        let last = keys.rows.len();
        let shown = format!(
            "{} to {last} of {}",
            (app.first + 1).min(last),
            grouped(keys.of)
        );
        let unreadable = match keys.unreadable {
            0 => String::new(),
            n => format!(", {n} damaged"),
        };
        text = format!("{text}  {shown}{unreadable}");
    }
    text
}

/// Figures in lines, as many in each as there is room for.
fn flow(facts: &[Fact], width: usize, no_color: bool) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = vec![];
    for fact in facts {
        let name = Span::styled(format!("{} ", fact.name), Modifier::DIM);
        let text = Span::styled(fact.text.clone(), style(fact.tone, no_color));
        let needed = name.width() + text.width();
        match lines.last_mut() {
            Some(line) if line.width() + GAP + needed <= width => {
                line.push_span(" ".repeat(GAP));
                line.push_span(name);
                line.push_span(text);
            }
            _ => lines.push(Line::from(vec![name, text])),
        }
    }
    lines
}

/// Without colours, what is bad is still bold, and the words say it anyway.
fn style(tone: Tone, no_color: bool) -> Style {
    let (color, modifier) = match tone {
        Tone::Plain => (None, Modifier::empty()),
        Tone::Good => (Some(Color::Green), Modifier::empty()),
        Tone::Warning => (Some(Color::Yellow), Modifier::BOLD),
        Tone::Bad => (Some(Color::Red), Modifier::BOLD),
    };
    let style = Style::new().add_modifier(modifier);
    match color {
        Some(color) if !no_color => style.fg(color),
        _ => style,
    }
}

fn table<'a>(app: &App, snapshot: &'a Snapshot, area: Rect) -> Table<'a> {
    let keys = snapshot.keys.rows.iter().zip(snapshot.changed.iter());
    let shown = keys
        .skip(app.first)
        .take(area.height.saturating_sub(1).into());
    let wide = area.width >= 60;
    let mark = |by: By, name: &str| match (app.order.by == by, app.order.reversed) {
        (false, _) => name.to_owned(),
        (true, false) => format!("{name}▼"),
        (true, true) => format!("{name}▲"),
    };
    let head = [
        mark(By::Size, "SIZE"),
        mark(By::Age, "AGE"),
        mark(By::Updates, "UPD/S"),
    ];
    let row = |numbers: [String; 3], kind: Cell<'a>, key: Cell<'a>| {
        let numbers = numbers.map(|n| Cell::from(Line::from(n).right_aligned()));
        let kind = wide.then_some(kind);
        Row::new(numbers.into_iter().chain(kind).chain([key]))
    };
    let rows = shown.map(|(key, changed)| {
        let expired = if key.expired { " (expired)" } else { "" };
        let numbers = [
            scaled(key.bytes),
            age(*changed, snapshot.taken),
            per_second(snapshot.rate(key)),
        ];
        row(
            numbers,
            key.kind.as_str().into(),
            format!("{}{expired}", escaped(&key.key)).into(),
        )
    });
    let numbers = [10, 8, 8].map(Constraint::Length);
    let kind = wide.then_some(Constraint::Length(10));
    let widths = numbers.into_iter().chain(kind).chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(row(head, "KIND".into(), "KEY".into()).bold())
}

const HELP: [&str; 12] = [
    "s a u   sort by size, age, updates",
    "r       reverse the order",
    "up down page up, page down, home, end",
    "? or h  this; any key closes it",
    "q esc   quit",
    "",
    ">5 min: changed before this began.",
    "UPD/S: updates of the key, at least;",
    "an average over about 5 seconds.",
    "L1, L2, server: who answers the reads",
    "of clients; with --metrics URL.",
    "Fill: of what the store may hold.",
];

fn help(frame: &mut Frame<'_>, area: Rect) {
    let area = area.centered(
        Constraint::Length(42.min(area.width)),
        Constraint::Length((HELP.len() as u16 + 2).min(area.height)),
    );
    frame.render_widget(Clear, area);
    let lines: Vec<_> = HELP.map(Line::from).into();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title("help")),
        area,
    );
}
