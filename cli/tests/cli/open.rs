//! What a path may hold, and what is said of it.

use crate::squat::Squat::*;
use crate::squat::{self, Place, Watchdog};
use crate::store::{Ran, Store, command, run};
use erlmcp_shm_writer::{Kind, Writer};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const COMMANDS: [&[&str]; 6] = [
    &["stat"],
    &["list"],
    &["get", "resource", "k"],
    &["verify"],
    &["bench"],
    &["dump"],
];

fn store() -> Store {
    Store::with(&[(Kind::Resource, b"k", b"v", b"{}")])
}

#[test]
fn no_file() {
    let store = Store::new();
    for args in COMMANDS {
        store
            .run(args)
            .refused(2, "export.bin: no store at the path: start the node");
    }
}

#[test]
fn not_a_store() {
    let store = Store::new();
    fs::write(store.path(), vec![7; 10000]).unwrap();
    for args in COMMANDS.iter().copied().chain([&["watch"][..]]) {
        store.run(args).refused(2, "not an erlmcp-shm store");
    }
    fs::write(store.path(), b"").unwrap();
    store.run(["stat"]).refused(2, "not an erlmcp-shm store");
}

#[test]
fn newer_version() {
    let store = store();
    let mut bytes = fs::read(store.path()).unwrap();
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    fs::write(store.path(), bytes).unwrap();
    for args in COMMANDS {
        store.run(args).refused(2, "format version 2");
    }
}

#[test]
fn damaged_header_and_truncated_file() {
    let store = store();
    let mut bytes = fs::read(store.path()).unwrap();
    fs::write(store.path(), &bytes[..bytes.len() - 8]).unwrap();
    for args in COMMANDS {
        store.run(args).refused(1, "damaged");
    }
    bytes[24] ^= 1;
    fs::write(store.path(), &bytes).unwrap();
    for args in COMMANDS {
        store.run(args).refused(1, "damaged");
    }
}

#[test]
fn squats_of_every_kind() {
    for squat in squat::ALL {
        let _watchdog = Watchdog::new(format!("{squat:?}"));
        let place = Place::new();
        let theirs = place.elsewhere("store");
        let options = Writer::options().size(1 << 20);
        options.open(theirs).unwrap().close();
        if !place.squat(squat, &place.store()) {
            continue;
        }
        let before = place.seen(&[]);
        let wanted = match squat {
            Socket | Fifo | Device | Folder | OthersFifo | OthersFolder => "not a regular file",
            LinkToNothing | LinkToText | LinkToStore | LinkToItself => "not a regular file",
            OthersText | NameOfOthersText => "another user",
            WritableByGroup | WritableByAll => "writable by others",
            Text | NameOfText => "not an erlmcp-shm store",
        };
        for args in COMMANDS.iter().copied().chain([&["watch"][..]]) {
            run(&place.store(), args).refused(2, wanted);
        }
        assert_eq!(place.seen(&[]), before);
    }
}

#[test]
fn writable_by_others() {
    let store = store();
    fs::set_permissions(store.path(), Permissions::from_mode(0o620)).unwrap();
    store.run(["stat"]).refused(2, "writable by others");
}

#[test]
fn of_another_user() {
    let store = store();
    if std::os::unix::fs::chown(store.path(), Some(12345), None).is_err() {
        println!("SKIPPED: only root can give a file away");
        return;
    }
    for args in COMMANDS {
        store.run(args).refused(2, "another user");
        let trusting = args.iter().chain(&["--trust-owner", "12345"]);
        let ran = store.run(trusting);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn wrong_usage() {
    let store = store();
    let cases: [&[&str]; 10] = [
        &[],
        &["frobnicate"],
        &["get"],
        &["get", "resource"],
        &["get", "file", "k"],
        &["get", "resource", "k", "--key-hex", "6b"],
        &["get", "resource", "--key-hex", "6"],
        &["get", "resource", "--escaped", r"\q"],
        &["list", "--kind", "tools"],
        &["bench", "--reads", "0"],
    ];
    for args in cases {
        let ran = store.run(args);
        assert_eq!((ran.code, &ran.stdout[..]), (2, &b""[..]), "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_path_comes_from_the_environment() {
    let store = store();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_erlmcp-shm"));
    command.args(["get", "resource", "k"]);
    command.env("ERLMCP_SHM_PATH", store.path());
    assert_eq!(Ran::new(command).fine(), b"v");

    // What the command line says wins, on either side of the subcommand.
    let nowhere = store.beside("nowhere");
    let mut before = self::command(&store.path(), ["get", "resource", "k"]);
    before.env("ERLMCP_SHM_PATH", &nowhere);
    assert_eq!(Ran::new(before).fine(), b"v");
    let mut behind = std::process::Command::new(env!("CARGO_BIN_EXE_erlmcp-shm"));
    behind
        .args(["get", "resource", "k", "--path"])
        .arg(store.path());
    behind.env("ERLMCP_SHM_PATH", &nowhere);
    assert_eq!(Ran::new(behind).fine(), b"v");
}

#[test]
fn help_and_version_are_answers() {
    let store = Store::new();
    let help = store.run(["--help"]).text();
    for word in [
        "stat",
        "list",
        "get",
        "verify",
        "watch",
        "bench",
        "publish",
        "dump",
        "load",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let version = store.run(["--version"]).text();
    assert_eq!(
        version,
        concat!("erlmcp-shm ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn the_file_is_the_last_argument_of_whatever_looks_into_a_store() {
    let store = store();
    let nowhere = store.beside("nowhere");
    for args in COMMANDS {
        let mut with_file = command(&nowhere, args);
        with_file.arg(store.path());
        let ran = Ran::new(with_file);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
    let ran = store.run(["get", "resource", "--key-hex", "6b", "file"]);
    ran.refused_with(2, "cannot be used with");
}

#[test]
fn an_option_that_means_nothing_is_refused() {
    let store = store();
    let cases: [(&[&str], &str); 8] = [
        (&["dump", "--json"], "--json"),
        (&["serve", "--json"], "--json"),
        (&["--config", "x", "stat"], "--config"),
        (&["list", "--config", "x"], "--config"),
        (&["publish", ".", "--trust-owner", "1"], "--trust-owner"),
        (&["load", "-", "--pread"], "--pread"),
        (&["tools", "--pread"], "--pread"),
        (&["publish", ".", "--config", "x"], "--config"),
    ];
    for (args, option) in cases {
        store
            .run(args)
            .refused_with(2, &format!("the option '{option}' means nothing to"));
        let name = args
            .iter()
            .find(|arg| !arg.starts_with("--") && **arg != "x");
        let help = store.run([name.unwrap(), "--help"]).text();
        assert!(!help.contains(option), "{help}");
    }
    // In the environment it is there for others.
    let mut command = store.command(["stat"]);
    command.env("ERLMCP_SHM_CONFIG", "x");
    Ran::new(command).fine();
}

#[test]
fn each_help_has_an_example_and_its_own_options_first() {
    let help = Store::new().run(["publish", "--help"]).text();
    let at = |words| {
        help.find(words)
            .unwrap_or_else(|| panic!("{words}: {help}"))
    };
    assert!(at("--prefix <URI>") < at("--mode <MODE>"));
    assert!(at("--mode <MODE>") < at("Options of every command"));
    assert!(at("Options of every command") < at("--path <FILE>"));
    assert!(at("--path <FILE>") < at("Examples:\n  erlmcp-shm publish docs"));
}
