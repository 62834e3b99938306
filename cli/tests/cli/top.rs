//! `top`, in a real terminal and without one.

use crate::pty::Pty;
use crate::store::{Ran, Store, WriterProcess, json_lines};
use erlmcp_shm_writer::Kind;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

fn top(store: &Store, args: &[&str]) -> std::process::Command {
    let mut command = store.command(["top", "--interval", "0.1"].iter().chain(args));
    command.env_remove("NO_COLOR");
    command
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Entries of three sizes, in a store whose writer lives.
fn three() -> (Store, WriterProcess) {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    writer.put("small", "1");
    writer.put("large", &"x".repeat(3000));
    writer.put("medium", &"x".repeat(300));
    (store, writer)
}

/// The keys on the screen, from the top.
fn keys(text: &str) -> Vec<String> {
    let rows = text.lines().skip_while(|line| !line.contains("UPD/S"));
    let rows = rows.skip(1).filter(|line| line.contains("resource"));
    rows.filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect()
}

#[test]
fn keys_sizes_and_help() {
    let (store, mut writer) = three();
    let mut pty = Pty::start(&top(&store, &[]), 100, 24);
    pty.until_shown(&format!("writer alive (process {})", writer.pid()));
    pty.assert_taken();
    pty.until("sorted by size", |text| {
        keys(text) == ["large", "medium", "small"] && text.contains("entries 3")
    });
    pty.press("r");
    pty.until("reversed", |text| {
        text.contains("SIZE▲") && keys(text) == ["small", "medium", "large"]
    });
    pty.press("a");
    pty.until("sorted by age", |text| {
        text.contains("AGE▼") && keys(text) == ["small", "large", "medium"]
    });
    writer.put("small", "2");
    pty.until("younger by a put", |text| {
        keys(text) == ["large", "medium", "small"] && text.contains("4 puts")
    });
    pty.press("u");
    pty.until("sorted by updates", |text| {
        text.contains("UPD/S▼") && keys(text).first().is_some_and(|key| key == "small")
    });

    pty.press("?");
    pty.until_shown("reverse the order");
    pty.press("x");
    pty.until("help is gone", |text| !text.contains("reverse the order"));

    pty.resize(40, 10);
    pty.until("small", |text| {
        text.contains("?: help") && !text.contains("s: size") && text.contains("writer alive")
    });
    pty.press("?");
    pty.until_shown("reverse the order");
    pty.press("?");
    pty.resize(200, 60);
    pty.until("large", |text| {
        text.contains("s: size") && text.lines().count() == 60 && keys(text).len() == 3
    });
    // Scrolled to its end, one key is left, and from there back to the first.
    pty.press("\x1b[F");
    pty.until("at the end", |text| {
        keys(text).len() == 1 && text.contains("3 to 3 of 3")
    });
    pty.press("\x1b[H");
    pty.until("at the beginning", |text| keys(text).len() == 3);

    pty.press("q");
    assert_eq!(pty.end().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let (store, _writer) = three();
    for (keys, sent) in [
        ("\x1b", None),
        ("\x03", None),
        ("?q", None),
        ("", Some(Signal::TERM)),
        ("", Some(Signal::HUP)),
        ("", Some(Signal::INT)),
    ] {
        let mut pty = Pty::start(&top(&store, &[]), 80, 24);
        pty.until_shown("entries 3");
        pty.assert_taken();
        pty.press(keys);
        if let Some(sent) = sent {
            signal(pty.pid(), sent);
        }
        let status = pty.end();
        match sent {
            None => assert_eq!(status.code(), Some(0), "{keys:?}"),
            Some(sent) => assert_eq!(status.signal(), Some(sent.as_raw()), "{sent:?}"),
        }
        pty.assert_restored();
    }
}

#[test]
fn the_writer_dies_and_the_file_comes_and_goes() {
    let store = Store::new();
    let mut pty = Pty::start(&top(&store, &[]), 80, 24);
    pty.until_shown("there is no file at the path; waiting for one");
    let mut writer = WriterProcess::start(&store.path());
    pty.until_shown("entries 0");
    pty.until_shown("0 to 0 of 0");
    writer.put("first", "1");
    pty.until("the key", |text| keys(text) == ["first"]);
    let pid = writer.pid();
    writer.kill();
    pty.until_shown(&format!("writer dead (process {pid})"));
    assert_eq!(keys(&pty.text()), ["first"]);

    // Another store takes the place of the file.
    let other = Store::new();
    let mut writer = WriterProcess::start(&other.path());
    writer.put("second", "2");
    writer.close();
    fs::rename(other.path(), store.path()).unwrap();
    pty.until("the other store", |text| keys(text) == ["second"]);
    pty.until_shown("writer has closed the store");

    fs::remove_file(store.path()).unwrap();
    pty.until_shown("there is no file");
    assert!(keys(&pty.text()).is_empty());
    fs::write(store.beside("junk"), [7; 9000]).unwrap();
    fs::rename(store.beside("junk"), store.path()).unwrap();
    pty.until_shown("not an erlmcp-shm store");
    pty.press("q");
    assert_eq!(pty.end().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn no_color_means_none() {
    let (store, _writer) = three();
    let colours = |no_color: &str| {
        let mut command = top(&store, &[]);
        command.env("NO_COLOR", no_color);
        let mut pty = Pty::start(&command, 80, 24);
        pty.until_shown("writer alive");
        pty.press("q");
        pty.end();
        pty.assert_restored();
        // Escapes such as ESC[38;5;2m and ESC[32m set a colour; 39 and 49 give the default back.
        let text = String::from_utf8_lossy(&pty.raw).into_owned();
        let styles = text.split("\x1b[").skip(1);
        // Of all escapes those that end in m.
        let styles = styles.filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            rest[end..].starts_with('m').then_some(&rest[..end])
        });
        let mut parameters = styles.flat_map(|parameters| parameters.split(';'));
        parameters.any(|n| matches!(n.parse(), Ok(30..=38 | 40..=48 | 90..=107)))
    };
    assert!(colours(""), "there is something to leave out");
    assert!(!colours("1"));
}

/// A key cannot do anything to the terminal.
#[test]
fn keys_are_shown_escaped() {
    let store = Store::with(&[(Kind::Resource, b"\x1b[2J\x07bad\xff", b"v", b"{}")]);
    let mut pty = Pty::start(&top(&store, &[]), 80, 24);
    pty.until_shown(r"\x1b[2J\x07bad\xff");
    pty.press("q");
    pty.end();
    assert!(!pty.raw.contains(&7));
    let once = store.run(["top", "--once", "--interval", "0.1"]).text();
    assert!(once.contains(r" \x1b[2J\x07bad\xff"), "{once}");
}

#[test]
fn one_plain_snapshot() {
    let (store, mut writer) = three();
    writer.put("small", "2");
    writer.delete("medium");
    let once = ["top", "--once", "--interval", "0.2"];
    let text = store.run(once).text();
    assert!(!text.contains('\x1b'));
    for line in [
        format!("path        {}", store.path().display()),
        format!("writer      alive (process {})", writer.pid()),
        "entries     2".into(),
        "puts/s      0".into(),
        "so far      4 puts, 1 deletes, 0 rollovers".into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(keys(&text), ["large", "small"]);
    let by_age = store.run(once.iter().chain(&["--sort", "age"])).text();
    assert_eq!(keys(&by_age), ["large", "small"]);
    // The file as an argument wins.
    let other = Store::with(&[(Kind::Resource, b"other", b"v", b"{}")]);
    let other = other.path();
    let text = store.run(once.iter().chain(&[other.to_str().unwrap()]));
    assert_eq!(keys(&text.text()), ["other"]);
}

#[test]
fn one_snapshot_in_json() {
    let (store, writer) = three();
    let answer = store
        .run(["top", "--json", "--interval", "0.1"])
        .json()
        .remove(0);
    assert_eq!(answer["writer"], "alive");
    assert_eq!(answer["writer_pid"], writer.pid());
    assert_eq!(
        (&answer["puts"], &answer["entries"]),
        (&3.into(), &3.into())
    );
    assert_eq!(answer["puts_per_second"], 0.0);
    assert_eq!(answer["keys"][0]["key"], "large");
    assert_eq!(answer["keys"][0]["bytes"], 3002);
    assert_eq!(answer["keys"].as_array().unwrap().len(), 3);
}

#[test]
fn nothing_to_show() {
    let store = Store::new();
    store
        .run(["top", "--once"])
        .refused(2, "no store at the path");
    store
        .run(["top"])
        .refused(2, "stdout is no terminal: add --once");
    for wrong in ["0", "x", "1e9"] {
        let ran = store.run(["top", "--interval", wrong]);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    for wrong in ["https://localhost/metrics", "localhost:1", "file:///x"] {
        let ran = store.run(["top", "--metrics", wrong]);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
}

/// What puts there were between two looks is what is shown: of the store, and of the key.
#[test]
fn rates_are_of_what_happened() {
    let (store, mut writer) = three();
    let child = store
        .command(["top", "--json", "--interval", "2", "--sort", "updates"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // More than enough for two looks, some before the first and some after the second.
    let mut puts = 0;
    let mut child = child;
    while child.try_wait().unwrap().is_none() {
        writer.put("small", "3");
        puts += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let answer = &json_lines(&ran.stdout)[0];
    let rate = answer["puts_per_second"].as_f64().unwrap();
    assert!(rate > 0.0 && rate * 2.0 <= f64::from(puts), "{rate} {puts}");
    let key = &answer["keys"][0];
    assert_eq!(key["key"], "small");
    // Two looks and two walks, one just after the other: the same puts but for a few.
    let of_key = key["updates_per_second"].as_f64().unwrap();
    println!("{puts} puts; {rate:.1} of the store and {of_key:.1} of the key per second");
    assert!(
        of_key > rate * 0.5 && of_key < rate * 2.0,
        "{of_key} {rate}"
    );
}

/// A server of one text after the other.
fn metrics(texts: Vec<String>) -> String {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for text in texts {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /metrics HTTP/1.1\r\n"));
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            )
            .unwrap();
        }
    });
    url
}

fn text(l1: f64, l2: f64, miss: f64, count: u64) -> String {
    format!(
        "erlmcp_claude_flow_cache_hit_rate{{cache=\"l1\"}} {l1}\n\
         erlmcp_claude_flow_cache_hit_rate{{cache=\"l2\"}} {l2}\n\
         erlmcp_claude_flow_cache_miss_rate {miss}\n\
         erlmcp_claude_flow_latency_seconds{{quantile=\"0.5\"}} 0.00000003\n\
         erlmcp_claude_flow_latency_seconds{{quantile=\"0.99\"}} 0.0000021\n\
         erlmcp_claude_flow_latency_seconds_count {count}\n\
         erlmcp_claude_flow_sona_compliance_ratio 0.999\n"
    )
}

#[test]
fn tiers_that_a_client_tells_of() {
    let (store, _writer) = three();
    let url = metrics(vec![
        text(0.5, 0.25, 0.25, 400),
        text(0.9, 0.05, 0.05, 2000),
    ]);
    let args = ["top", "--once", "--interval", "0.5", "--metrics", &url];
    let shown = store.run(args).text();
    for words in [
        "latency     p50 30 ns, p99 2 us\n",
        "< 50 us     99.9 %\n",
        "/s (90.0 %)\n",
        "/s (5.0 %)\n",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    assert!(shown.contains("L2          0/s (5.0 %)\n"), "{shown}");

    // Nobody there, and nothing to the point: told, beside all the rest.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = format!("http://{gone}/metrics");
    let other = metrics(vec!["up 1\n".into(), "up 1\n".into()]);
    for (url, words) in [(gone, "onnection refused"), (other, "no metrics of reads")] {
        let args = ["top", "--once", "--interval", "0.1", "--metrics", &url];
        let shown = store.run(args).text();
        assert!(shown.contains(&format!("metrics     {url}: ")), "{shown}");
        assert!(
            shown.contains(words) && shown.contains("entries     3"),
            "{shown}"
        );
    }
}
