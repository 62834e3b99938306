//! Stores to look into, the command to look with, and writers in processes of their own.

use erlmcp_shm_writer::{Kind, Writer};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Kind, key, data, metadata.
type Entry<'a> = (Kind, &'a [u8], &'a [u8], &'a [u8]);

/// A path for a store in a folder of its own.
pub struct Store {
    dir: TempDir,
}

impl Store {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A store whose writer has published `entries` and closed it.
    pub fn with(entries: &[Entry<'_>]) -> Self {
        let store = Self::new();
        let writer = store.writer();
        for (kind, key, data, metadata) in entries {
            writer.put(*kind, key, data, metadata).unwrap();
        }
        writer.close();
        store
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("export.bin")
    }

    /// A path beside the store.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn writer(&self) -> Writer {
        Writer::options().size(1 << 20).open(self.path()).unwrap()
    }

    /// The command on this store.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        command(&self.path(), args)
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        Ran::new(self.command(args))
    }
}

pub fn command<A: AsRef<OsStr>>(path: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_erlmcp-shm"));
    command
        .env_remove("ERLMCP_SHM_PATH")
        .env_remove("ERLMCP_SHM_CONFIG");
    command.arg("--path").arg(path).args(args);
    command
}

pub fn run<A: AsRef<OsStr>>(path: &Path, args: impl IntoIterator<Item = A>) -> Ran {
    Ran::new(command(path, args))
}

/// What a run of the command left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn new(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self::of(output)
    }

    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ends it"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The stdout of a run that went well and complained of nothing.
    #[track_caller]
    pub fn fine(self) -> Vec<u8> {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        self.stdout
    }

    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.fine()).unwrap()
    }

    /// The lines of JSON of a run that went well.
    #[track_caller]
    pub fn json(self) -> Vec<Value> {
        json_lines(&self.fine())
    }

    /// That it ended with `code`, these words on stderr, and nothing on stdout.
    #[track_caller]
    pub fn refused_with(self, code: i32, words: &str) {
        assert_eq!((self.code, &self.stdout[..]), (code, &b""[..]), "{self:?}");
        assert!(self.stderr.contains(words), "{self:?}");
    }

    /// That it ended with `code`, one sentence on stderr that holds `words`, and nothing on stdout.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
        assert!(self.stderr.starts_with("erlmcp-shm: "), "{self:?}");
        assert!(self.stderr.contains(words), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }
}

#[track_caller]
pub fn json_lines(text: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let values: Vec<_> = lines.collect::<Result<_, _>>().unwrap();
    assert!(values.iter().all(Value::is_object));
    values
}

const WRITER_PATH: &str = "ERLMCP_SHM_TEST_WRITER";

/// A writer in another process, which takes orders on its stdin.
pub struct WriterProcess {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStderr>>,
}

impl WriterProcess {
    pub fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::writer_process",
                "--ignored",
                "--nocapture",
            ])
            .env(WRITER_PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut writer = Self {
            child,
            orders,
            answers,
        };
        writer.expect_done();
        writer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn put(&mut self, key: &str, data: &str) {
        self.order(&format!("put {key} {data}"));
    }

    pub fn delete(&mut self, key: &str) {
        self.order(&format!("delete {key}"));
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.expect_done();
    }

    /// Whatever else it says (why it panicked, say) belongs to the output of the test.
    fn expect_done(&mut self) {
        loop {
            match self.answers.next().expect("the writer lives").unwrap() {
                answer if answer == "done" => return,
                remark => println!("writer: {remark}"),
            }
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn close(self) {
        drop(self.orders);
        let mut child = self.child;
        assert!(child.wait().unwrap().success());
    }
}

/// No test: what a [`WriterProcess`] runs.
#[test]
#[ignore = "what the other tests start as a process"]
fn writer_process() {
    let Ok(path) = std::env::var(WRITER_PATH) else {
        return;
    };
    let options = Writer::options().size(1 << 20);
    // It beats when it gets an order, and must not seem dead between two.
    let options = options.heartbeat_interval(Duration::from_secs(60));
    let writer = options.open(path).unwrap();
    eprintln!("done");
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        match order.split(' ').collect::<Vec<_>>()[..] {
            ["put", key, data] => {
                writer
                    .put(Kind::Resource, key.as_bytes(), data.as_bytes(), b"{}")
                    .unwrap();
            }
            ["delete", key] => {
                writer.delete(Kind::Resource, key.as_bytes()).unwrap();
            }
            _ => panic!("no order: {order}"),
        }
        writer.heartbeat().unwrap();
        writer.flush().unwrap();
        eprintln!("done");
    }
    writer.close();
}
