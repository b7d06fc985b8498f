//! `manage = "config"`: the configuration decides. Other commands are refused, a host comes up whatever it asks for, and an
//! apply that was broken off goes on.

use crate::apply::{RED_PACKET, applied, apply, nothing_to_do, planned, running, stop};
use crate::backfill::{answers, caught_up, expected, export, last_operation};
use crate::harness::{Folder, Host};
use crate::message::{packet, shop, told};
use crate::release::{json, refused, rule};
use crate::run;
use retag_tests::model::MapSide;
use retag_tests::rule_file::baskets;

/// The shop, whose configuration decides.
fn managed() -> Folder {
    let folder = shop();
    manage(&folder);
    folder
}

fn manage(folder: &Folder) {
    folder.configure("[state]", "[registry]\nmanage = \"config\"\n[state]");
}

#[track_caller]
fn is_live(folder: &Folder, revision: &str) {
    let ls = rule(folder, &["ls"]);
    assert!(ls.lines().any(|line| line.starts_with(revision) && line.contains("live")), "{ls}");
}

#[test]
fn releases_change_by_apply_only() {
    let folder = managed();
    let host = running(&folder);
    nothing_to_do(&folder);
    let said = ["managed-by-config", "retag apply"];
    refused(&folder, &["push", "payer.wasm"], &said);
    refused(&folder, &["params", "set", "payer", "big_spender_min=1.00"], &said);
    refused(&folder, &["rm", "payer", "--yes"], &said);
    folder.configure("5000.00", "3000.00");
    applied(&folder, &[]);
    is_live(&folder, "payer@2");
    refused(&folder, &["prepare", "payer@1"], &said);
    refused(&folder, &["activate", "payer@1"], &said);
    refused(&folder, &["rollback", "payer"], &said);
    // What looks after a running host is allowed.
    rule(&folder, &["pause", "payer"]);
    rule(&folder, &["resume", "payer"]);
    rule(&folder, &["preview", "payer@2"]);
    refused(&folder, &["cancel", "payer@2"], &["not-cancellable"]);
    refused(&folder, &["rm", "payer@2", "--yes"], &["revision-in-use"]);
    folder.configure("3000.00", "5000.00");
    applied(&folder, &[]);
    is_live(&folder, "payer@1");
    stop(host);
}

/// The way back, what is told and a rule that stands still live through a restart; what is configured meanwhile waits for an
/// apply.
#[test]
fn what_was_applied_stays_over_a_restart() {
    let folder = managed();
    let host = running(&folder);
    folder.configure("5000.00", "3000.00");
    applied(&folder, &[]);
    stop(host);
    folder.configure("3000.00", "2000.00");
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    is_live(&folder, "payer@2");
    let status = folder.retag(&["status"]).assert_ok().out;
    for piece in
        ["payer has other parameters in the configuration", "until `retag apply`", "retag apply --dry-run"]
    {
        assert!(status.contains(piece), "`{piece}` is not in\n{status}");
    }
    assert!(rule(&folder, &["ls", "payer"]).contains("payer@1   retained"));
    applied(&folder, &[]);
    is_live(&folder, "payer@3");
    let status = folder.retag(&["status"]).assert_ok().out;
    assert!(!status.contains("drift"), "{status}");
    rule(&folder, &["pause", "payer"]);
    stop(host);
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    assert_eq!(json(&folder, &["show", "payer@3"])["release"], "paused");
    rule(&folder, &["resume", "payer"]);
    nothing_to_do(&folder);
    stop(host);
    // Of a rule that nothing was applied to as well.
    let folder = managed();
    let host = running(&folder);
    rule(&folder, &["pause", "payer"]);
    stop(host);
    let mut host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    assert_eq!(json(&folder, &["show", "payer@1"])["release"], "paused");
    stop(host);
}

#[test]
fn a_host_comes_up_whatever_the_configuration_asks_for() {
    let folder = managed();
    folder.append("o.p0.json", packet(13));
    stop(running(&folder));
    let payer = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    folder.write("payer.wasm", baskets(&payer));
    folder.configure("[sinks.out]", &format!("{RED_PACKET}[sinks.out]"));
    // Nobody applies to a job that ends with its files.
    folder.run().assert_error(1, &["needs-history", "payer"]);
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    assert!(folder.retag(&["get", "user/1"]).assert_ok().out.contains("silver"), "it runs as before");
    let status = folder.retag(&["status"]).assert_ok().out;
    for piece in ["payer has another file", "red_packet is new in the configuration", "retag apply"] {
        assert!(status.contains(piece), "`{piece}` is not in\n{status}");
    }
    planned(&folder, &[], &["payer: change: new aggregates", "red_packet: add"]);
    applied(&folder, &[]);
    is_live(&folder, "payer@2");
    is_live(&folder, "red_packet@1");
    stop(host);
    // One that is not named any more goes on, until it is pruned.
    folder.configure(RED_PACKET, "");
    let host = running(&folder);
    folder.retag(&["members", "only_takes"]).assert_ok();
    applied(&folder, &["--prune"]);
    stop(host);
    let host = running(&folder);
    folder.retag(&["members", "only_takes"]).assert_error(1, &["unknown-label"]);
    nothing_to_do(&folder);
    stop(host);
}

/// An apply that prepares payer@2, broken off in the middle of its history.
fn broken_off(folder: &Folder) -> Host {
    let payer = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    folder.write("payer.wasm", baskets(&payer));
    let mut applying = folder.start(&["apply"], &[]);
    applying.until("the history", || {
        let last = last_operation(folder);
        (last["kind"] == "prepare" && last["state"] == "running").then_some(())
    });
    applying
}

#[test]
fn an_apply_that_was_broken_off_goes_on() {
    let folder = Folder::new();
    let messages = run::shop(&folder, 12_000);
    manage(&folder);
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
    let mut host = running(&folder);
    let applying = broken_off(&folder);
    applying.signal("INT");
    let ended = applying.wait();
    assert_eq!(ended.status.code(), None, "by the signal");
    for said in ["interrupted", "the host goes on with operation", "retag rule cancel payer@2"] {
        assert!(ended.err.contains(said), "{}", ended.err);
    }
    // The host dies too, and comes up again.
    host.signal("KILL");
    host.wait();
    host = folder.start(&["run"], &[]);
    answers(&mut host, &folder);
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@2 is live"), "{out}");
    caught_up(&mut host, &folder);
    assert_eq!(export(&folder), expected(&messages, MapSide::Baskets));
    nothing_to_do(&folder);
    stop(host);
}

#[test]
fn what_is_not_wanted_any_more_is_dropped() {
    let folder = Folder::new();
    run::shop(&folder, 12_000);
    manage(&folder);
    folder.configure("[engine]", "[engine]\ncycle_bytes_max = 20000\nblock_bytes = 4000");
    let host = running(&folder);
    let payer = std::fs::read(folder.path("payer.wasm")).expect("the rule");
    let applying = broken_off(&folder);
    applying.signal("INT");
    applying.wait();
    // Another merge came: what runs already.
    folder.write("payer.wasm", payer);
    let before = told(&folder);
    let dry = apply(&folder, &["--dry-run", "--detailed-exitcode"]);
    let said = "payer: runs as configured; payer@2 is prepared and not configured: dropped";
    assert!(dry.status.code() == Some(2) && dry.out.contains(said), "{}{}", dry.out, dry.err);
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@2 is no longer prepared"), "{out}");
    nothing_to_do(&folder);
    is_live(&folder, "payer@1");
    assert_eq!(told(&folder), before);
    // Or one with other parameters.
    let applying = broken_off(&folder);
    applying.signal("INT");
    applying.wait();
    let payer = crate::harness::root().join("rules/payer/payer.wasm");
    std::fs::copy(payer, folder.path("payer.wasm")).expect("the rule");
    folder.configure("5000.00", "3000.00");
    let out = applied(&folder, &[]);
    assert!(out.contains("payer@2 is no longer prepared") && out.contains("payer@3 is live"), "{out}");
    stop(host);
}

#[test]
fn a_host_on_the_network_is_applied_to_with_a_deployers_token() {
    let folder = managed();
    folder.configure("listen = \"off\"", "listen = \"127.0.0.1:0\"");
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    let url = folder.read("data/http.url").trim().to_owned();
    let token =
        |role: &str| folder.retag(&["token", "create", "--role", role]).assert_ok().out.trim().to_owned();
    let over = |role: &str| {
        let args = ["apply", "--url", &url, "--config", "retag.toml"];
        folder.start(&args, &[("RETAG_TOKEN", &token(role))]).wait()
    };
    folder.configure("5000.00", "3000.00");
    over("operator").assert_error(1, &["forbidden", "deployer"]);
    assert!(over("deployer").assert_ok().out.contains("payer@2 is live"));
    let again = apply(&folder, &[]).assert_ok().out;
    assert!(again.contains("nothing to do"), "{again}");
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("apply activate") && history.contains("token "), "{history}");
    stop(host);
}
