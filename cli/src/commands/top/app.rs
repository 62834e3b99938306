//! What is shown, and what keys change in it.

use crate::output::shown;
use crate::snapshot::{By, Order, Snapshot, Tiers};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::path::Path;

/// How far the page keys scroll.
const PAGE: usize = 10;

/// All that the picture follows from.
pub struct App {
    pub path: String,
    /// `None` until there is the first.
    pub snapshot: Option<Snapshot>,
    /// What a client or node says; `None` where none is asked, or has not yet answered.
    pub tiers: Option<Result<Tiers, String>>,
    pub order: Order,
    /// The key in the first line, counted from 0.
    pub first: usize,
    pub help: bool,
    pub no_color: bool,
}

/// What others have to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Quit,
    Order(Order),
}

impl App {
    pub fn new(path: &Path, order: Order, no_color: bool) -> Self {
        Self {
            path: shown(path),
            snapshot: None,
            tiers: None,
            order,
            first: 0,
            help: false,
            no_color,
        }
    }

    pub fn show(&mut self, snapshot: Snapshot) {
        self.first = self.first.min(snapshot.keys.rows.len().saturating_sub(1));
        self.snapshot = Some(snapshot);
    }

    /// Everything that happens leads to a new picture; so there is nothing to do about a new size.
    pub fn on(&mut self, event: &Event) -> Option<Wish> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(key),
            _ => None,
        }
    }

    fn on_key(&mut self, key: &KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Wish::Quit);
        }
        if self.help {
            // Any key, but to quit.
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Wish::Quit);
        }
        let rows = self.snapshot.as_ref().map_or(0, |s| s.keys.rows.len());
        let last = rows.saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('s') => return self.sort(By::Size),
            KeyCode::Char('a') => return self.sort(By::Age),
            KeyCode::Char('u') => return self.sort(By::Updates),
            KeyCode::Char('r') => {
                self.order.reversed = !self.order.reversed;
                return self.ordered();
            }
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first = last.min(self.first + 1),
            KeyCode::PageUp => self.first = self.first.saturating_sub(PAGE),
            KeyCode::PageDown => self.first = last.min(self.first + PAGE),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = last,
            _ => {}
        }
        None
    }

    fn sort(&mut self, by: By) -> Option<Wish> {
        self.order = Order {
            by,
            reversed: false,
        };
        self.ordered()
    }

    fn ordered(&mut self) -> Option<Wish> {
        self.first = 0;
        Some(Wish::Order(self.order))
    }
}
