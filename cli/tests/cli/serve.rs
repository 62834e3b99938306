//! `serve`: what it answers, to whom, and whatever becomes of the writer.

use crate::store::{Store, WriterProcess};
use erlmcp_shm_client::metrics::METRICS;
use erlmcp_shm_writer::Kind;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A running `serve`.
struct Server {
    child: Child,
    /// Host and port.
    address: String,
}

impl Server {
    fn start(store: &Store, args: &[&str]) -> Self {
        let mut command = store.command(["serve", "--listen", "127.0.0.1:0"].iter().chain(args));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        let (_, rest) = said.split_once(" at http://").expect(&said);
        let (address, _) = rest.split_once("/ ").expect(&said);
        Self {
            child,
            address: address.to_owned(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Head and body of the answer to these very bytes.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.address
        ))
    }

    /// The code of the answer to a request with these header lines.
    fn code(&self, method: &str, path: &str, headers: &str) -> u16 {
        let (head, _) = self.ask(&format!("{method} {path} HTTP/1.1\r\n{headers}\r\n"));
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Asks until the answer is as it shall be.
    fn until(&self, path: &str, is: impl Fn(&str) -> bool) -> String {
        for _ in 0..1000 {
            let (_, body) = self.get(path);
            if is(&body) {
                return body;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{path} is never as it shall be: {}", self.get(path).1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HOSTILE: &[u8] =
    b"<script>document.title='taken'</script><img src=x onerror=alert(1)>&\"'\x1b";

fn store() -> Store {
    Store::with(&[
        (Kind::Resource, b"file:///a", b"value", b"{}"),
        (Kind::Resource, HOSTILE, b"the larger value", b"{}"),
        (Kind::ToolSchema, b"tool", b"{}", b"{}"),
    ])
}

#[test]
fn the_page() {
    let store = store();
    let server = Server::start(&store, &[]);
    let (head, body) = server.get("/");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "connection: close",
    ] {
        assert!(head.lines().any(|found| found == line), "{line}\n{head}");
    }
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self';"));
    assert!(body.contains("<h2>3 of 3 keys</h2>"), "{body}");
    assert!(
        body.contains("<dd class=\"warning\">has closed the store"),
        "{body}"
    );
    // Nothing of a key is markup.
    let key = "<code>&lt;script&gt;document.title=&#39;taken&#39;&lt;/script&gt;&lt;img src=x \
               onerror=alert(1)&gt;&amp;&quot;&#39;\\x1b</code>";
    assert!(body.contains(key), "{body}");
    assert!(
        !body.contains("<script") && !body.contains("<img"),
        "{body}"
    );

    let place = |body: &str, key: &str| body.find(&format!("<code>{key}</code>")).expect(key);
    let oldest = server.get("/?sort=oldest").1;
    assert!(place(&oldest, "file:///a") < place(&oldest, "tool"));
    let newest = server.get("/?sort=newest").1;
    assert!(place(&newest, "tool") < place(&newest, "file:///a"));
    // What is no order is none.
    let largest = server.get("/?sort=%3Cscript%3E").1;
    assert!(place(&largest, "file:///a") < place(&largest, "tool"));
    assert!(!largest.contains("<script"));
    let (head, style) = server.get("/style.css");
    assert!(head.contains("content-type: text/css") && style.contains(".bad"));
}

#[test]
fn head_gives_the_same_without_the_body() {
    let store = store();
    let server = Server::start(&store, &[]);
    let (head, body) = server.ask("HEAD /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n"));
    assert_eq!(body, "");
    let length = server.get("/style.css").1.len();
    assert!(
        head.contains(&format!("content-length: {length}")),
        "{head}"
    );
}

#[test]
fn what_is_refused() {
    let store = store();
    let server = Server::start(&store, &["--allow-host", "Metrics.Example"]);
    let ours = "Host: localhost\r\n";
    for (method, path, headers, code) in [
        ("POST", "/", ours, 405),
        ("PUT", "/metrics", ours, 405),
        ("DELETE", "/", ours, 405),
        ("OPTIONS", "/", ours, 405),
        ("GET", "/../etc/passwd", ours, 404),
        ("GET", "/metrics/", ours, 404),
        ("GET", "http://evil.example/", ours, 403),
    ] {
        assert_eq!(server.code(method, path, headers), code, "{method} {path}");
    }
    for (host, code) in [
        ("Host: localhost:9465\r\n", 200),
        ("Host: LOCALHOST\r\n", 200),
        ("Host: 127.0.0.1:1\r\n", 200),
        ("Host: 192.168.7.7\r\n", 200),
        ("Host: [::1]:9465\r\n", 200),
        ("Host: metrics.example:9465\r\n", 200),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost.evil.example\r\n", 403),
        ("Host: 127.0.0.1.evil.example\r\n", 403),
        ("Host: evil.example@localhost.evil.example\r\n", 403),
        ("Host: \r\n", 403),
        ("Host: a b\r\n", 403),
        ("Host: localhost\r\nHost: evil.example\r\n", 403),
        ("", 403),
    ] {
        for path in ["/", "/metrics"] {
            assert_eq!(server.code("GET", path, host), code, "{host:?}");
        }
    }
    // What is no HTTP ends the connection, and nothing else.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"\x16\x03\x01 nonsense\r\n\r\n").unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.code("GET", "/", ours), 200);
}

fn sample(text: &str, name: &str) -> Option<f64> {
    let start = format!("erlmcp_claude_flow_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(line.parse().unwrap())
}

#[test]
fn metrics_are_those_of_the_list_and_say_what_the_writer_did() {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    let server = Server::start(&store, &[]);
    for n in 0..50 {
        writer.put(&format!("key-{}", n % 7), "value");
    }
    writer.delete("key-3");
    let (head, text) = server.get("/metrics");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    for (name, value) in [
        ("shm_up", 1.0),
        ("shm_entries", 6.0),
        ("shm_puts_total", 50.0),
        ("shm_deletes_total", 1.0),
        ("shm_rollovers_total", 0.0),
        ("shm_size_bytes", f64::from(1 << 20)),
    ] {
        assert_eq!(sample(&text, name), Some(value), "{name}");
    }
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let listed = METRICS
        .iter()
        .filter(|metric| metric.name.contains("_shm_"));
    let listed = listed.map(|metric| format!("{} {}", metric.name, metric.kind.name()));
    assert_eq!(types.collect::<Vec<_>>(), listed.collect::<Vec<_>>());

    // The page and `top` say the same.
    let page = server.get("/").1;
    assert!(page.contains("50 puts, 1 deletes, 0 rollovers"), "{page}");
    let top = store
        .run(["top", "--json", "--interval", "0.1"])
        .json()
        .remove(0);
    assert_eq!((&top["puts"], &top["entries"]), (&50.into(), &6.into()));
    check_with_promtool(&text);
}

#[test]
fn the_writer_dies_and_the_file_comes_and_goes() {
    let store = Store::new();
    let server = Server::start(&store, &[]);
    let (head, body) = server.get("/");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(body.contains("there is no file at the path"), "{body}");
    assert!(!body.contains("<table"));
    let (head, text) = server.get("/metrics");
    assert!(head.starts_with("http/1.1 200 ok"));
    assert_eq!(
        text.lines().filter(|line| !line.starts_with('#')).count(),
        1
    );
    assert_eq!(sample(&text, "shm_up"), Some(0.0));
    check_with_promtool(&text);

    let mut writer = WriterProcess::start(&store.path());
    writer.put("kept", "value");
    server.until("/", |page| page.contains("<code>kept</code>"));
    assert!(server.get("/").1.contains("<dd class=\"good\">alive"));
    writer.kill();
    let page = server.until("/", |page| page.contains("<dd class=\"bad\">dead"));
    assert!(page.contains("<code>kept</code>"), "{page}");
    // The heartbeat's age is there, and rises.
    assert!(
        page.contains("<dt>heartbeat</dt><dd class=\"bad\">"),
        "{page}"
    );
    let age = || sample(&server.get("/metrics").1, "shm_heartbeat_age_seconds").unwrap();
    let before = age();
    assert!(age() > before);

    fs::remove_file(store.path()).unwrap();
    server.until("/metrics", |text| sample(text, "shm_up") == Some(0.0));
    fs::write(store.beside("junk"), [7; 9000]).unwrap();
    fs::rename(store.beside("junk"), store.path()).unwrap();
    let page = server.until("/", |page| page.contains("not an erlmcp-shm store"));
    assert!(page.contains("class=\"bad\""));
    fs::remove_file(store.path()).unwrap();
    let mut writer = WriterProcess::start(&store.path());
    writer.put("new", "value");
    server.until("/", |page| {
        page.contains("<code>new</code>") && !page.contains("kept")
    });
}

/// Whoever connects and says nothing holds up nobody.
#[test]
fn idle_connections_are_no_harm() {
    let store = store();
    let server = Server::start(&store, &[]);
    let idle: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(&server.address).unwrap())
        .collect();
    assert_eq!(server.code("GET", "/", "Host: localhost\r\n"), 200);
    drop(idle);
}

#[test]
fn an_address_that_is_taken() {
    let store = store();
    let server = Server::start(&store, &[]);
    let args = ["serve", "--listen", &server.address];
    store.run(args).refused(2, "cannot listen on 127.0.0.1:");
}

/// What promtool says to a text, where there is promtool.
fn check_with_promtool(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut promtool = match command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("promtool"),
        promtool => promtool.unwrap(),
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// Past the harness, which would keep it to itself.
fn skip(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} is not installed");
}

/// The page as a browser has it, which would run a script if the page let it: there is none to run.
#[test]
fn in_a_browser() {
    let store = store();
    let server = Server::start(&store, &[]);
    let profile = tempfile::tempdir().unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.args([
        "--no-first-run",
        "--disable-extensions",
        "--no-proxy-server",
    ]);
    chromium.arg("--dump-dom").arg(server.url());
    chromium.stdin(Stdio::null()).stderr(Stdio::null());
    let output = match chromium.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("chromium"),
        output => output.unwrap(),
    };
    let dom = String::from_utf8(output.stdout).unwrap();
    let title = format!("<title>{}</title>", store.path().display());
    assert!(dom.contains(&title), "{dom}");
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
    assert_eq!(
        dom.matches("<tr>").count(),
        4,
        "a head and three keys: {dom}"
    );
    assert!(dom.contains("<td><code>file:///a</code>"), "{dom}");
    assert!(dom.contains("has closed the store"), "{dom}");
}
