//! Bad input: configuration, files, messages. Everything before it is kept, and the message leads out.

use crate::harness::Folder;
use crate::message::{order, told, update_without_old, user};

/// A folder with one user and one order read.
fn begun() -> Folder {
    let folder = Folder::new();
    folder.write("o.p0.json", order(2, (1, 42), "5000.00"));
    folder.write("o.p1.json", user(1, 42));
    folder.run().assert_ok();
    assert_eq!(told(&folder), TOLD);
    folder
}

const TOLD: [&str; 2] = ["42 big_spender", "42 tier=silver"];

/// The binlog begins anew under its old names: other changes have ids that were applied already.
#[test]
fn a_log_that_was_restarted_is_refused_in_one_cycle_and_in_many() {
    for small in [false, true] {
        let folder = Folder::new();
        if small {
            folder.configure("workers = 2", "workers = 2\ncycle_bytes_max = 64\nblock_bytes = 64");
        }
        let later = |line: String| line.replace("\"ts\":17723", "\"ts\":17823");
        let before: String = (1..=3).map(|n| user(n, n)).collect();
        let after: String = (1..=3).map(|n| later(user(n, 10 + n))).collect();
        assert_ne!(after, (1..=3).map(|n| user(n, 10 + n)).collect::<String>());
        folder.write("o.p0.json", before + &after);
        folder.write("o.p1.json", "");
        folder.run().assert_error(1, &["log-restarted", "o.p0.json"]);
        assert_eq!(told(&folder), ["1 never_paid", "2 never_paid", "3 never_paid"]);
    }
}

#[test]
fn a_typo_in_the_configuration_is_named() {
    let folder = begun();
    folder.configure("history =", "histroy =");
    folder.run().assert_error(1, &["retag.toml", "histroy", "did you mean `history`?"]);
    folder.configure("histroy =", "history =");
    folder.configure("[state]", "[sate]");
    folder.run().assert_error(1, &["retag.toml", "sate", "did you mean `state`?"]);
    folder.write("retag.toml", "[state");
    folder.run().assert_error(1, &["retag.toml", "line 1"]);
}

#[test]
fn a_missing_configuration_is_named() {
    let folder = Folder::new();
    folder.retag(&["run", "--config", "other.toml"]).assert_error(1, &["other.toml", "--config"]);
}

#[test]
fn a_missing_source_file_is_named() {
    let folder = begun();
    folder.configure("\"o.p1.json\"", "\"o.p1.json\", \"o.p2.json\"");
    folder.run().assert_error(1, &["orders", "o.p2.json"]);
    std::fs::rename(folder.path("o.p1.json"), folder.path("away")).unwrap();
    folder.configure(", \"o.p2.json\"", "");
    folder.run().assert_error(1, &["orders", "o.p1.json"]);
    std::fs::rename(folder.path("away"), folder.path("o.p1.json")).unwrap();
    folder.append("o.p1.json", user(3, 43));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&TOLD[..], &["43 never_paid"]].concat());
}

#[test]
fn a_replaced_file_is_refused_and_the_old_one_is_taken_again() {
    let folder = begun();
    let old = folder.read("o.p1.json");
    folder.write("o.p1.json", user(7, 77) + &user(8, 78));
    folder.run().assert_error(1, &["file-replaced", "o.p1.json", "put the old file back"]);
    folder.write("o.p1.json", &old[..old.len() / 2]);
    folder.run().assert_error(1, &["file-replaced", "o.p1.json", "shorter"]);
    folder.write("o.p1.json", old + &user(3, 43));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&TOLD[..], &["43 never_paid"]].concat());
}

#[test]
fn a_file_cut_in_mid_line_is_refused_there_and_goes_on_when_it_is_whole() {
    let folder = begun();
    let (whole, cut) = (user(3, 43), user(4, 44));
    let at = folder.read("o.p1.json").len() + whole.len();
    folder.append("o.p1.json", whole + &cut[..cut.len() / 2]);
    let ended = folder.run().assert_error(1, &["orders", "o.p1.json", &format!("byte {at}")]);
    let expect = [&TOLD[..], &["43 never_paid"]].concat();
    assert_eq!(told(&folder), expect, "what stands before the cut is kept");
    assert_eq!(folder.run().assert_error(1, &[]).err.lines().last(), ended.err.lines().last());
    folder.append("o.p1.json", &cut[cut.len() / 2..]);
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&expect[..], &["44 never_paid"]].concat());
}

#[test]
fn a_last_line_without_its_end_is_a_message_at_until_end() {
    let folder = begun();
    folder.append("o.p1.json", user(3, 43).trim_end());
    folder.run().assert_ok();
    folder.append("o.p1.json", "\n".to_owned() + &user(4, 44));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&TOLD[..], &["43 never_paid", "44 never_paid"]].concat());
}

/// `bad` in the middle of a file: all before it is committed, nothing behind it in its file.
fn refused(bad: &str, said: &[&str]) {
    let folder = begun();
    let at = folder.read("o.p1.json").len() + user(3, 43).len();
    folder.append("o.p1.json", user(3, 43) + bad + &user(4, 44));
    let position = format!("byte {at}");
    let said = [&["orders", "o.p1.json", &position][..], said].concat();
    let first = folder.run().assert_error(1, &said);
    let expect = [&TOLD[..], &["43 never_paid"]].concat();
    assert_eq!(told(&folder), expect);
    let second = folder.run().assert_error(1, &said);
    let without_state = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_state(&first.err), without_state(&second.err), "the second start says the same");
    assert_eq!(told(&folder), expect);
}

#[test]
fn an_update_without_old_stops_the_host_at_its_place() {
    refused(
        &update_without_old(9, (1, 42), "5000.00"),
        &["shop.orders", "old", "everything before it is committed"],
    );
}

#[test]
fn a_line_that_is_no_json_stops_the_host_at_its_place() {
    refused("hello\n", &["everything before it is committed"]);
}

#[test]
fn debezium_is_named() {
    let envelope =
        r#"{"before":null,"after":{"user_id":5},"source":{"db":"shop","table":"users"},"op":"c","ts_ms":1}"#;
    refused(&format!("{envelope}\n"), &["looks-like-debezium", "Debezium", "not supported yet"]);
}

#[test]
fn debezium_in_its_payload_alone_is_named() {
    let envelope =
        r#"{"payload":{"before":null,"after":{"user_id":5},"source":{"db":"shop"},"op":"c","ts_ms":1}}"#;
    refused(&format!("{envelope}\n"), &["looks-like-debezium", "Debezium", "not supported yet"]);
}

#[test]
fn canal_is_named() {
    let canal = r#"{"data":[{"user_id":"5"}],"database":"shop","table":"users","type":"INSERT","isDdl":false,"es":1,"ts":2,"mysqlType":{},"sqlType":{},"pkNames":["user_id"]}"#;
    refused(&format!("{canal}\n"), &["looks-like-canal", "Canal", "not supported yet"]);
}

#[test]
fn a_source_that_is_taken_out_is_refused() {
    let folder = begun();
    folder.configure("[sources.orders]", "[sources.other]");
    folder.run().assert_error(1, &["orders", "name it again"]);
    folder.configure("[sources.other]", "[sources.orders]");
    folder.run().assert_ok();
}

#[test]
fn one_file_under_two_names_is_refused() {
    let folder = begun();
    std::os::unix::fs::symlink("o.p1.json", folder.path("link.json")).unwrap();
    std::fs::hard_link(folder.path("o.p1.json"), folder.path("hard.json")).unwrap();
    let config = folder.read("retag.toml");
    for other in ["link.json", "hard.json", "*.json"] {
        folder.configure("\"o.p1.json\"", &format!("\"o.p1.json\", \"{other}\""));
        folder.run().assert_error(1, &["same-file", "o.p1.json", "json of source orders", "name it once"]);
        folder.write("retag.toml", &config);
    }
    let source = "[sources.again]\ntype = \"files\"\nformat = \"maxwell\"\nhistory = \"complete\"\n";
    folder.append("retag.toml", format!("{source}paths = [\"o.p1.json\"]\n"));
    folder.run().assert_error(1, &["same-file", "o.p1.json of source orders", "o.p1.json of source again"]);
    folder.write("retag.toml", config);
    folder.run().assert_ok();
    assert_eq!(told(&folder), TOLD);
}

#[test]
fn one_name_written_in_several_ways_is_one_file() {
    let folder = begun();
    let whole = folder.path("o.p1.json").display().to_string();
    folder.configure("\"o.p1.json\"", &format!("\"o.p1.json\", \"./o.p1.json\", \"{whole}\""));
    folder.append("o.p1.json", user(3, 43).repeat(2) + &order(4, (9, 43), "6000.00"));
    folder.run().assert_ok();
    assert_eq!(told(&folder), [&TOLD[..], &["43 big_spender", "43 tier=silver"]].concat());
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_file_is_passed_over() {
    let folder = Folder::new();
    folder.write("o.p0.json", "\u{feff}".to_owned() + &order(2, (1, 42), "5000.00"));
    folder.write("o.p1.json", "\u{feff}".to_owned() + &user(1, 42));
    folder.run().assert_ok();
    assert_eq!(told(&folder), TOLD);
    folder.append("o.p1.json", "\u{feff}".to_owned() + &user(3, 43));
    let at = folder.read("o.p1.json").len() - user(3, 43).len() - 3;
    folder.run().assert_error(1, &["orders", "o.p1.json", &format!("byte {at}")]);
    folder.write("o.p1.json", b"\xff\xfe{\0");
    std::fs::remove_dir_all(folder.path("data")).unwrap();
    std::fs::remove_file(folder.path("labels.ndjson")).unwrap();
    folder.run().assert_error(1, &["o.p1.json", "byte order mark", "UTF-8"]);
}

#[test]
fn a_file_that_is_cut_and_grows_again_while_it_is_followed_is_refused() {
    let folder = begun();
    let mut host = folder.start(&["run", "--config", "retag.toml"], &[]);
    folder.append("o.p1.json", user(3, 43));
    host.until("a label", || (told(&folder).len() == 3).then_some(()));
    folder.write("o.p1.json", user(1, 42) + &user(4, 44) + &user(5, 45) + &user(6, 46));
    host.wait().assert_error(1, &["file-replaced", "o.p1.json", "put the old file back"]);
    assert_eq!(told(&folder), [&TOLD[..], &["43 never_paid"]].concat());
}

#[test]
fn partitions_of_one_producer_with_and_without_ids_are_refused_the_same_way_each_time() {
    let without = |text: String| text.replace("\"server_id\":223344,", "");
    let with: String = (1..200).map(|n| user(n, n)).collect();
    for (first, second, at) in
        [(&with, &without(with.clone()), "o.p1.json"), (&without(with.clone()), &with, "o.p0.json")]
    {
        for _ in 0..3 {
            let folder = Folder::new();
            folder.configure("[engine]", "[engine]\ncycle_bytes_max = 500\nblock_bytes = 300");
            folder.write("o.p0.json", first);
            folder.write("o.p1.json", second);
            for _ in 0..2 {
                let place = format!("{at} at byte 0");
                folder.run().assert_error(1, &["id-form-changed", &place, "form `position`", "has `none`"]);
            }
            assert!(told(&folder).is_empty());
        }
    }
}
