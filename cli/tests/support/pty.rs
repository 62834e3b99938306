//! A terminal: a command that runs in one, the keys that are pressed there, and what it shows.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A command in a terminal of its own.
pub struct Pty {
    master: File,
    /// Kept open: the modes of a terminal that nobody has open are gone.
    slave: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// All that came, as it came.
    pub raw: Vec<u8>,
    modes: Termios,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Pty {
    /// `setsid` makes the terminal the one that controls the process, and then becomes the command.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(columns, rows)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(Path::new(name.to_str().unwrap()))
            .unwrap();
        let modes = tcgetattr(&slave).unwrap();
        let mut child = Command::new("setsid");
        child.arg("--ctty").arg(command.get_program());
        child.args(command.get_args()).env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => child.env(name, value),
                None => child.env_remove(name),
            };
        }
        let child = child
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let mut from = master.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = from.read(&mut bytes)
                && sender.send(bytes[..n].to_vec()).is_ok()
            {}
        });
        Self {
            master,
            slave,
            child,
            output,
            parser: vt100::Parser::new(rows, columns, 0),
            raw: vec![],
            modes,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.master, size(columns, rows)).unwrap();
    }

    /// What is on the screen now.
    pub fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// Waits for a picture that is as it shall be.
    #[track_caller]
    pub fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(&self.text()) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("never {what}; but:\n{}", self.text());
            };
            self.take(&bytes);
        }
    }

    #[track_caller]
    pub fn until_shown(&mut self, words: &str) {
        self.until(&format!("{words:?}"), |text| text.contains(words));
    }

    fn take(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.raw.extend_from_slice(bytes);
    }

    /// Waits for the end, and for what was written until then.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.take(&bytes);
        }
        status
    }

    /// That the terminal is as it was found.
    #[track_caller]
    pub fn assert_restored(&self) {
        let modes = tcgetattr(&self.slave).unwrap();
        assert_eq!(modes.input_modes, self.modes.input_modes);
        assert_eq!(modes.output_modes, self.modes.output_modes);
        assert_eq!(modes.control_modes, self.modes.control_modes);
        assert_eq!(modes.local_modes, self.modes.local_modes);
        assert!(!self.parser.screen().alternate_screen());
        assert!(!self.parser.screen().hide_cursor());
    }

    /// That it is not: else the above would prove nothing.
    #[track_caller]
    pub fn assert_taken(&self) {
        let modes = tcgetattr(&self.slave).unwrap();
        assert_ne!(modes.local_modes, self.modes.local_modes);
        assert!(self.parser.screen().alternate_screen());
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
