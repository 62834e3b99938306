//! Child processes that behave badly.

mod wire;

use std::{path::Path, time::Duration};

use erlmcp_shm_client::transport::{Stdio, Transport, TransportError};
use rmcp::service::ServiceError;
use wire::{call, small_server, start, stdio, within};

/// Starts the small server below a shell that notes its process id, so that the test can ask for it.
fn with_pid(file: &Path, args: &str) -> Stdio {
    let script = format!(
        "echo $$ > {}; exec {} {args}",
        file.display(),
        small_server().display()
    );
    Stdio::new("sh").args(["-c", &script])
}

async fn pid_of(file: &Path) -> i32 {
    within(async {
        loop {
            if let Some(pid) = std::fs::read_to_string(file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
            {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn is_gone(pid: i32) {
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    within(async {
        while rustix::process::test_kill_process(process).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn lines_that_are_no_message_are_skipped() {
    let (client, _) = within(start(&stdio(&["chatty"]).into())).await;
    let answer = within(call(&client, "echo", "still here")).await.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, "still here");
}

#[tokio::test]
async fn a_child_that_exits_ends_what_is_pending_and_says_how() {
    let (client, end) = within(start(&stdio(&[]).into())).await;
    let (pending, killer) =
        within(async { tokio::join!(call(&client, "never", ""), call(&client, "exit", "")) }).await;
    for result in [pending, killer] {
        assert!(
            matches!(result, Err(ServiceError::TransportClosed)),
            "{result:?}"
        );
    }
    match &*within(end.wait()).await {
        TransportError::Exited { status, .. } => assert_eq!(status.code(), Some(7)),
        other => panic!("{other}"),
    }
    assert!(within(call(&client, "echo", "")).await.is_err());
}

#[tokio::test]
async fn a_child_that_is_killed_says_by_which_signal() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let (client, end) = within(start(&with_pid(&dir.path().join("pid"), "").into())).await;
    let pid = pid_of(&dir.path().join("pid")).await;
    let pending = call(&client, "never", "");
    let kill = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
    };
    let (result, killed) = within(async { tokio::join!(pending, kill) }).await;
    killed.unwrap();
    assert!(
        matches!(result, Err(ServiceError::TransportClosed)),
        "{result:?}"
    );
    assert!(
        matches!(&*end.wait().await, TransportError::Exited { status, .. } if status.signal() == Some(9))
    );
}

#[tokio::test]
async fn a_child_that_lives_on_after_its_input_ended_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut stubborn = with_pid(&dir.path().join("pid"), "stubborn");
    stubborn.grace = Duration::from_millis(50);
    let (client, end) = within(start(&stubborn.into())).await;
    let pid = pid_of(&dir.path().join("pid")).await;
    let before = std::time::Instant::now();
    within(client.cancel()).await.unwrap();
    assert!(
        before.elapsed() >= Duration::from_millis(50),
        "it ended by itself"
    );
    is_gone(pid).await;
    assert!(matches!(*end.wait().await, TransportError::Closed));
}

#[tokio::test]
async fn dropping_the_transport_kills_the_child_and_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    // The shell stays, and the program that matters is its child.
    let script = format!("sh -c 'echo $$ > {}; exec sleep 600'; true", file.display());
    let connected = Transport::from(Stdio::new("sh").args(["-c", &script]))
        .connect()
        .await
        .unwrap();
    let pid = pid_of(&file).await;
    drop(connected);
    is_gone(pid).await;
}

#[tokio::test]
async fn output_that_ends_while_the_child_lives_ends_the_transport() {
    let script = "read line; exec >&-; exec sleep 600";
    let connected = Transport::from(Stdio::new("sh").args(["-c", script]))
        .connect()
        .await
        .unwrap();
    let end = connected.end();
    let started = within(rmcp::serve_client((), connected)).await;
    assert!(started.is_err());
    assert!(matches!(
        *within(end.wait()).await,
        TransportError::Exited { .. }
    ));
}

#[tokio::test]
async fn a_line_beyond_the_limit_ends_the_transport() {
    let mut small = stdio(&[]);
    small.max_message_bytes = 4096;
    let (client, end) = within(start(&small.into())).await;
    let result = within(call(&client, "echo", &"x".repeat(5000))).await;
    assert!(
        matches!(result, Err(ServiceError::TransportClosed)),
        "{result:?}"
    );
    assert!(matches!(
        *within(end.wait()).await,
        TransportError::TooLarge { limit: 4096 }
    ));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Transport::from(Stdio::new("no-such-program"))
        .connect()
        .await
        .err()
        .unwrap();
    assert!(
        matches!(&error, TransportError::Spawn { command, .. } if command == "no-such-program"),
        "{error}"
    );
}

#[tokio::test]
async fn the_last_words_of_a_quiet_child_are_in_the_error() {
    let script = "printf 'one\\ntwo\\n\\n\\033[2Jthree\\nfour\\n' >&2; exit 3";
    for (quiet, words) in [
        (true, "exit status: 3: two; [2Jthree; four"),
        (false, "exit status: 3"),
    ] {
        let mut child = Stdio::new("sh").args(["-c", script]);
        child.quiet = quiet;
        let connected = Transport::from(child).connect().await.unwrap();
        let end = connected.end();
        assert!(within(rmcp::serve_client((), connected)).await.is_err());
        let error = within(end.wait()).await.to_string();
        assert!(error.ends_with(words), "{error}");
    }
}

#[tokio::test]
async fn a_quiet_child_that_says_a_lot_is_not_held_up() {
    let mut child = Stdio::new("sh").args(["-c", "head -c 1000000 /dev/zero >&2; exit 4"]);
    child.quiet = true;
    let connected = Transport::from(child).connect().await.unwrap();
    let end = connected.end();
    assert!(within(rmcp::serve_client((), connected)).await.is_err());
    let TransportError::Exited { status, .. } = &*within(end.wait()).await else {
        panic!("it ended otherwise");
    };
    assert_eq!(status.code(), Some(4));
}
