//! A server as a child process: one message a line on its input and its output.
//!
//! rmcp has a child process too. This one differs in what a supervisor needs: it says how the child ended,
//! logs what it skips, bounds a line, lets the grace be set, and ends what the child started with it (`npx`
//! and shells start the real server as a process of their own).

use std::{collections::BTreeMap, process::Stdio as Pipe, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

use super::{
    End, MAX_MESSAGE_BYTES, TransportError,
    link::{Link, Wire, parse},
};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};

/// From the end of a child's input to that of its output, where it is the end of the child.
const GONE: Duration = Duration::from_millis(500);

/// A server started as a child process; what it writes on stderr goes to this process's, unless it is `quiet`.
///
/// ```
/// use erlmcp_shm_client::transport::{Stdio, Transport};
///
/// let node = Stdio::new("erl").args(["-noshell", "-config", "config/claude_flow", "-s", "erlmcp_shm", "stdio"]);
/// assert_eq!(Transport::from(node).name(), "stdio");
/// ```
#[derive(Clone, Debug)]
pub struct Stdio {
    /// The program, looked for in PATH.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables added to those it inherits.
    pub env: BTreeMap<String, String>,
    /// How long it may take to end once its input is closed, and again after a SIGTERM, before SIGKILL.
    pub grace: Duration,
    /// The longest line that is read.
    pub max_message_bytes: usize,
    /// Keep what it writes on stderr away from this process's: should it end, its last words are in the error.
    pub quiet: bool,
}

impl Stdio {
    /// A program without arguments, with 2 s of grace.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            grace: Duration::from_secs(2),
            max_message_bytes: MAX_MESSAGE_BYTES,
            quiet: false,
        }
    }

    /// Sets the arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn connect(&self, end: End) -> Result<Link, TransportError> {
        let mut child = Command::new(&self.command)
            .args(&self.args)
            .envs(&self.env)
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(if self.quiet {
                Pipe::piped()
            } else {
                Pipe::inherit()
            })
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| TransportError::Spawn {
                command: self.command.clone(),
                source,
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(TransportError::Closed);
        };
        let words = LastWords::of(child.stderr.take());
        let group = Group(child);
        let (grace, limit) = (self.grace, self.max_message_bytes);
        Ok(Link::spawn(end, move |wire| {
            run(group, input, output, words, wire, grace, limit)
        }))
    }
}

async fn run(
    mut group: Group,
    mut input: ChildStdin,
    output: ChildStdout,
    words: LastWords,
    wire: Wire,
    grace: Duration,
    limit: usize,
) -> Result<(), TransportError> {
    let Wire {
        mut outgoing,
        incoming,
    } = wire;
    let write = async {
        while let Some(out) = outgoing.recv().await {
            let result = write_line(&mut input, &out.message).await;
            if result.is_err() {
                // It has just ended, and how says more: that its output is at its end is heard in this pause.
                tokio::time::sleep(GONE).await;
            }
            out.settle(result);
        }
    };
    let failed = tokio::select! {
        read = read_lines(output, &incoming, limit) => Some(read),
        () = write => None,
    };
    drop(input);
    // Nothing more can come from a child whose output has ended: it only gets the time to end by itself, lest
    // those who wait for answers wait out the grace.
    let grace = if failed.is_some() {
        grace.min(Duration::from_millis(100))
    } else {
        grace
    };
    let status = group.finish(grace).await?;
    match failed {
        None => Ok(()),
        // The output is at its end: the child has ended, or was ended because nothing can come from it.
        Some(Ok(())) => Err(TransportError::Exited {
            status,
            said: words.take().await,
        }),
        Some(Err(error)) => Err(error),
    }
}

async fn write_line(
    input: &mut ChildStdin,
    message: &ClientJsonRpcMessage,
) -> Result<(), TransportError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    Ok(input.flush().await?)
}

async fn read_lines(
    output: ChildStdout,
    incoming: &mpsc::Sender<ServerJsonRpcMessage>,
    limit: usize,
) -> Result<(), TransportError> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than is allowed tells a line that is too long from one that just fits.
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        if (&mut output)
            .take(most)
            .read_until(b'\n', &mut line)
            .await?
            == 0
        {
            return Ok(());
        }
        if line.len() > limit {
            return Err(TransportError::TooLarge { limit });
        }
        if let Some(message) = parse("stdio", &line)
            && incoming.send(message).await.is_err()
        {
            // rmcp closes the transport: what the server still says is read so that it does not block, and dropped.
            continue;
        }
    }
}

/// The end of what a quiet child writes on stderr, which is read all the while lest it block.
struct LastWords(Option<tokio::task::JoinHandle<Vec<u8>>>);

impl LastWords {
    const MOST: usize = 2048;

    fn of(stderr: Option<tokio::process::ChildStderr>) -> Self {
        Self(stderr.map(|mut stderr| {
            tokio::spawn(async move {
                let (mut tail, mut chunk) = (Vec::new(), [0; 1024]);
                while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
                    tail.extend_from_slice(&chunk[..n]);
                    tail.drain(..tail.len().saturating_sub(Self::MOST));
                }
                tail
            })
        }))
    }

    /// Behind a colon, the lines on one; nothing, if it said nothing. What the child started may hold its stderr
    /// open: that is not waited for.
    async fn take(self) -> String {
        let Some(reading) = self.0 else {
            return String::new();
        };
        let Ok(Ok(tail)) = timeout(Duration::from_millis(500), reading).await else {
            return String::new();
        };
        let text = String::from_utf8_lossy(&tail);
        // What a terminal would obey is not passed on.
        let plain = |line: &str| line.replace(|c: char| c.is_control(), " ");
        let lines = text.lines().map(|line| plain(line).trim().to_owned());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        match lines.len() {
            0 => String::new(),
            n => format!(": {}", lines[n.saturating_sub(3)..].join("; ")),
        }
    }
}

/// The child and what it started, as one process group: gone when this is.
struct Group(Child);

impl Group {
    /// Waits for the child's end, and helps it along. Its input is closed already.
    async fn finish(
        &mut self,
        grace: Duration,
    ) -> Result<std::process::ExitStatus, TransportError> {
        for signal in [Signal::TERM, Signal::KILL] {
            if let Ok(status) = timeout(grace, self.0.wait()).await {
                return Ok(status?);
            }
            tracing::warn!(
                ?signal,
                "the server process lives on after its input was closed"
            );
            self.signal(signal);
        }
        Ok(self.0.wait().await?)
    }

    fn signal(&self, signal: Signal) {
        // No id once the child has been waited for: the number may then belong to another process.
        if let Some(pid) = self
            .0
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        {
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
