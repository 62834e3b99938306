//! `bench`: figures that hang together.

use crate::store::Store;
use erlmcp_shm_writer::Kind;

#[test]
fn figures() {
    let store = Store::with(&[
        (Kind::Resource, b"a", b"1", b"{}"),
        (Kind::Resource, b"b", b"", b"{}"),
        (Kind::ToolSchema, b"c", b"3", b"{}"),
    ]);
    for mode in [None, Some("--pread")] {
        let args = ["bench", "--json", "--reads", "1000", "--seed", "7"];
        let answer = store.run(args.into_iter().chain(mode)).json().remove(0);
        let n = |name: &str| answer[name].as_f64().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            (n("keys"), n("reads"), n("seed"), n("absent")),
            (3.0, 1000.0, 7.0, 0.0)
        );
        assert!(n("p50_ns") <= n("p99_ns") && n("p99_ns") <= n("p99_9_ns"));
        assert!(n("p99_9_ns") <= n("max_ns"));
        assert!(n("timer_p50_ns") <= n("timer_p99_ns"));
        assert!(n("overlapped_mean_ns") > 0.0 && n("get_many_mean_ns") > 0.0);
    }
    let tools = store
        .run(["bench", "--reads", "10", "--kind", "tool"])
        .text();
    assert!(tools.contains("10 of 1 keys"), "{tools}");
    for word in [
        "p50 ",
        "p99 ",
        "p99.9 ",
        "max ",
        "timer itself ",
        "overlapped mean ",
    ] {
        assert!(tools.contains(word), "{word}");
    }
}

#[test]
fn nothing_to_look_up() {
    let store = Store::with(&[(Kind::Resource, b"a", b"1", b"{}")]);
    store
        .run(["bench", "--prefix", "b"])
        .refused(1, "no entry is of that kind and prefix");
}
