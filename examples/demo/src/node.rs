//! The conversation with the node, over its stdin and stdout.

use crate::Result;
use std::io::{StdinLock, Write, stdin, stdout};
use std::str::FromStr;

/// The publishing node.
pub struct Node {
    answers: std::io::Lines<StdinLock<'static>>,
    pub otp: String,
    pub pid: u32,
    pub entries: usize,
    pub micros: f64,
}

impl Node {
    /// Waits until the node has published everything.
    pub fn wait_until_ready() -> Result<Self> {
        let mut answers = stdin().lines();
        let line = answers
            .next()
            .ok_or("the node ended before it was ready")??;
        let ["ready", otp, pid, entries, micros] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("the node says: {line}").into());
        };
        Ok(Self {
            otp: otp.into(),
            pid: number(pid)?,
            entries: number(entries)?,
            micros: number(micros)?,
            answers,
        })
    }

    /// Has the node publish a resource, and waits until its export has returned.
    pub fn put(&mut self, uri: &str, text: &str) -> Result<()> {
        let mut orders = stdout();
        writeln!(orders, "put {uri} {text}")?;
        orders.flush()?;
        match self.answers.next().ok_or("the node ended")?? {
            answer if answer == "done" => Ok(()),
            answer => Err(format!("the node says: {answer}").into()),
        }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| format!("no number: {text}").into())
}
