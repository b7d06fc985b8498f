//! The configuration and the environment over it: limits, types, names, and bytes that are no text.

use crate::following::{end, follow};
use crate::harness::{Ended, Folder, binary};
use crate::message::{SHOP_TOLD, shop, told, user};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

const RUN: [&str; 4] = ["run", "--config", "retag.toml", "--until-end"];

fn run_under(folder: &Folder, environment: &[(&str, &str)]) -> Ended {
    folder.start(&RUN, environment).wait()
}

#[test]
fn a_value_out_of_its_range_is_refused_with_key_and_range() {
    let folder = shop();
    let config = folder.read("retag.toml").replace("workers = 2\npoll_ms = 10\n", "");
    let most = (16 << 20).to_string();
    for (key, bad, range) in [
        ("workers", &["0", "65"][..], ["1 to", "64"]),
        ("cycle_bytes_max", &["0", "63"], ["at least", "64"]),
        ("block_bytes", &["0", "63", "16777217"], ["64 to", &most]),
        ("poll_ms", &["0", "1001"], ["1 to", "1000"]),
    ] {
        for value in bad {
            let text = config.replace("[engine]", &format!("[engine]\n{key} = {value}"));
            folder.write("retag.toml", text);
            let said = format!("engine.{key}: {}", range.join(" "));
            folder.run().assert_error(1, &["retag.toml", &said]);
        }
    }
    assert!(!folder.path("data").exists(), "a state was made");
    for limits in [("64", "64", "1"), ("64", "16777216", "1000")] {
        let (cycle, block, poll) = limits;
        let keys = format!("[engine]\ncycle_bytes_max = {cycle}\nblock_bytes = {block}\npoll_ms = {poll}");
        folder.write("retag.toml", config.replace("[engine]", &keys));
        folder.run().assert_ok();
    }
    assert_eq!(told(&folder), SHOP_TOLD);
}

#[test]
fn an_environment_that_is_no_text_is_named() {
    let folder = shop();
    let run = |name: &[u8], value: &[u8]| {
        let mut command = Command::new(binary());
        command.args(RUN).current_dir(folder.path(".")).env_remove("RETAG_CONFIG");
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        let done = command.output().expect("the binary starts");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    for (name, value) in [(&b"RETAG_STATE__DIR"[..], &b"da\xffta"[..]), (b"RETAG_STATE__DI\xffR", b"data")] {
        let (code, said) = run(name, value);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("RETAG_STATE__DI") && said.contains("UTF-8"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(!folder.path("data").exists(), "a state was made");
    let (code, said) = run(b"OTHER__NAME", b"\xff");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(told(&folder), SHOP_TOLD);
}

#[test]
fn a_variable_of_no_section_is_refused_with_the_nearest_name() {
    let folder = shop();
    let ended = run_under(&folder, &[("RETAG_STAT__DIR", "other")]);
    ended.assert_error(1, &["RETAG_STAT__DIR", "did you mean RETAG_STATE__DIR?"]);
    assert!(!folder.path("data").exists(), "a state was made");
    run_under(&folder, &[("RETAG_STATE__DIRR", "other")]).assert_error(1, &["dirr", "did you mean `dir`?"]);
    run_under(&folder, &[("RETAG_STATE__DIR", "2026")]).assert_ok();
    assert!(folder.path("2026").exists() && !folder.path("data").exists());
    assert_eq!(told(&folder), SHOP_TOLD);
}

#[test]
fn a_parameter_in_the_environment_may_look_like_a_number() {
    let folder = shop();
    let min = |min| [("RETAG_RULES__PAYER__PARAMS__BIG_SPENDER_MIN", min)];
    run_under(&folder, &min("3000.00")).assert_ok();
    let told_now = told(&folder);
    assert!(told_now.contains(&"1 big_spender".to_owned()), "{told_now:?}");
    run_under(&folder, &min("3000")).assert_ok();
    run_under(&folder, &min("\"3000.00\"")).assert_ok();
    assert_eq!(told(&folder), told_now, "the same value is the same, however it is written");
    run_under(&folder, &min("much")).assert_error(1, &["payer", "big_spender_min", "much"]);
}

#[test]
fn a_duration_is_written_with_its_unit() {
    let folder = shop();
    let rule = |after: &str| {
        format!("[rules.senior]\npath = \"senior.wasm\"\nparams = {{ senior_after = {after} }}\n")
    };
    let config = folder.read("retag.toml");
    let check = |after: &str| {
        folder.write("retag.toml", config.clone() + &rule(after));
        folder.retag(&["config", "check", "--config", "retag.toml"])
    };
    for good in ["\"7d\"", "\"12h\"", "\"30m\"", "\"45s\"", "\"1500ms\"", "\"604800\"", "\"0.5\""] {
        check(good).assert_ok();
    }
    for bad in ["\"7 days\"", "\"d\"", "1.5", "\"1.5h\""] {
        check(bad)
            .assert_error(1, &["senior_after", "\"7d\"", "\"12h\"", "\"30m\"", "\"45s\"", "\"1500ms\""]);
    }
}

#[test]
fn partitions_have_one_name_however_configuration_and_paths_are_written() {
    let folder = shop();
    let whole = |name: &str| folder.path(name).display().to_string();
    let relative = folder.read("retag.toml");
    let absolute =
        relative.replace("o.p0.json", &whole("o.p0.json")).replace("o.p1.json", &whole("o.p1.json"));
    std::fs::create_dir(folder.path("below")).unwrap();
    let from_below = folder.path("below/../retag.toml").display().to_string();
    let (mut n, mut expect) = (10, SHOP_TOLD.map(str::to_owned).to_vec());
    folder.run().assert_ok();
    for (config, path) in [
        (&absolute, "retag.toml".to_owned()),
        (&absolute, whole("retag.toml")),
        (&relative, whole("retag.toml")),
        (&relative, from_below),
        (&relative, "./retag.toml".to_owned()),
        (&absolute, "below/../retag.toml".to_owned()),
    ] {
        folder.write("retag.toml", config);
        folder.append("o.p1.json", user(n, n));
        folder.retag(&["run", "--until-end", "--config", &path]).assert_ok();
        expect.push(format!("{n} never_paid"));
        assert_eq!(told(&folder), expect, "{path}");
        n += 1;
    }
}

#[test]
fn a_check_says_what_a_start_would_make_of_the_state() {
    let folder = shop();
    let check = || folder.retag(&["config", "check", "--state"]);
    let said = |piece: &str| {
        let said = check().assert_ok().out;
        assert!(said.contains(piece), "`{piece}` is not in what it said:\n{said}");
        said
    };
    assert!(!said("state in").contains("as of commit"));
    assert!(!folder.path("data").exists(), "a state was made");
    folder.run().assert_ok();
    assert!(!said("as of commit").contains("a start"), "nothing would change");
    let config = folder.read("retag.toml");

    folder.configure("5000.00", "3000.00");
    said("rule payer: a start makes @2 live in the place of @1");
    folder.write("retag.toml", &config);
    said("as of commit");

    // What a start refuses, for the same reason.
    let other_rule =
        config.replace("params = { big_spender_min = \"5000.00\" }\n", "").replace("payer", "red_packet");
    let other_source = config.replace("[sources.orders]", "[sources.other]");
    for (config, why) in [
        (other_rule, &["rule payer is in the state but not in the configuration", "--remove payer"][..]),
        (other_source, &["source orders was read into this state but is not configured"]),
    ] {
        folder.write("retag.toml", config);
        check().assert_error(1, why);
        folder.run().assert_error(1, why);
    }
    folder.write("retag.toml", &config);

    let host = follow(&folder);
    check().assert_error(1, &["`retag apply --dry-run`", "state-in-use"]);
    end(host);
}
