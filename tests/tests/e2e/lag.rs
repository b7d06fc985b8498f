//! A host that follows and is behind by more than its source may be says so, until it is not.

use crate::backfill::{answers, caught_up};
use crate::message::{shop, user};
use crate::release::json;
use crate::socket::ask;

#[test]
fn a_rule_whose_source_waits_reads_lagging() {
    let folder = shop();
    folder.configure("history = \"complete\"", "history = \"complete\"\nlag_bytes_max = 100");
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let state = || json(&folder, &["show", "payer@1"])["run_state"].clone();
    assert_eq!(state(), "running");
    // The end of a line that its writer has not finished waits for ever.
    let line = user(9, 9);
    let (begin, end) = line.split_at(line.len() - 1);
    folder.append("o.p1.json", &begin[..100]);
    assert_eq!(state(), "running", "as much as may");
    folder.append("o.p1.json", &begin[100..]);
    assert_eq!(state(), "lagging");
    let status = folder.retag(&["status"]).assert_ok().out;
    let bytes = begin.len();
    for piece in
        [&format!("warning: {bytes} bytes of source orders wait"), "lag_bytes_max = 100", "(lagging)"]
    {
        assert!(status.contains(piece), "`{piece}` is not in\n{status}");
    }
    assert_eq!(ask(&folder, "GET /v1/rules", b"").1["rules"][0]["run_state"], "lagging");
    folder.append("o.p1.json", end);
    host.until("the line", || (state() == "running").then_some(()));
    assert!(!folder.retag(&["status"]).assert_ok().out.contains("lagging"));
    folder.append("o.p1.json", begin.replace("\"user_id\":9", "\"user_id\":8"));
    assert_eq!(state(), "lagging");
    // A host that does not run follows nothing.
    host.signal("INT");
    host.wait().assert_ok();
    assert_eq!(state(), "stopped");
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    assert_eq!(state(), "lagging");
    host.signal("INT");
    host.wait().assert_ok();
}
