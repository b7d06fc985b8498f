//! Dead letters of a webhook for people: listed, sent again, dropped, bounded, told in status and metrics, and never left behind
//! unasked.

use crate::following::{Shop, follow};
use crate::harness::Folder;
use crate::receiver::{Receiver, Reply, id_of};
use crate::webhook::{USERS, folder, hook, letters, read, settled, waits};
use serde_json::Value;
use std::collections::BTreeSet;

/// A receiver that refuses what has a key that ends so.
fn refusing(digits: &'static [char]) -> Receiver {
    Receiver::start(answers(digits))
}

fn answers(digits: &'static [char]) -> impl FnMut(&crate::receiver::Got) -> Reply + Send + 'static {
    move |got| {
        let refused = got.messages.iter().any(|message| message["key"].as_str().unwrap().ends_with(digits));
        if refused {
            Reply { status: 422, body: "no such user".into(), ..Reply::default() }
        } else {
            204.into()
        }
    }
}

fn url(receiver: &Receiver) -> String {
    format!("http://{}/", receiver.address)
}

/// `retag sink dead …`, about the webhook.
fn dead(folder: &Folder, what: &str, args: &[&str]) -> crate::harness::Ended {
    folder.retag(&[&["sink", "dead", what, "hook"], args].concat())
}

#[test]
fn dead_letters_are_listed_sent_again_and_dropped() {
    let receiver = refusing(&['3', '7']);
    let folder = folder(&url(&receiver), "");
    Shop::new(41, USERS).write(&folder, 400);
    let mut host = follow(&folder);
    settled(&mut host, &folder, &receiver);
    let first = letters(&folder);
    assert!(first.len() > 5, "{first:?}");
    assert_eq!((&first[0]["status"], &first[0]["refusals"]), (&422.into(), &1.into()));
    let told = dead(&folder, "ls", &["--limit", "2"]).assert_ok().out;
    let id = first[0]["id"].as_str().unwrap();
    assert!(
        told.contains(id) && told.contains("refused (422): no such user") && told.contains("more: --after"),
        "{told}"
    );
    let next = first[1]["id"].as_str().unwrap();
    let told = dead(&folder, "ls", &["--limit", "1", "--after", next]).assert_ok().out;
    assert!(told.contains(first[2]["id"].as_str().unwrap()) && !told.contains(next), "{told}");
    let told = folder.retag(&["status"]).assert_ok().out;
    assert!(told.contains(&format!("refused {} messages", first.len())), "{told}");
    let told = folder.retag(&["sink", "ls"]).assert_ok().out;
    assert!(told.contains("DEAD") && told.contains(&first.len().to_string()), "{told}");

    // Sent again: refused again, then half of them taken, under the ids that they had.
    dead(&folder, "replay", &[id]).assert_error(1, &["1 were refused again"]);
    let again = letters(&folder);
    assert_eq!((&again[0]["refusals"], again.len()), (&2.into(), first.len()));
    receiver.answer(answers(&['7']));
    let before = receiver.got().len();
    let ended = dead(&folder, "replay", &["--all", "--reason", "it is mended"]);
    let left = letters(&folder);
    assert!(left.len() < first.len() && !left.is_empty());
    ended.assert_error(1, &[&format!("{} were refused again", left.len())]);
    let taken: Vec<String> =
        receiver.got()[before..].iter().filter(|got| got.is_taken()).flat_map(|got| got.ids()).collect();
    let ids = |letters: &[Value]| letters.iter().map(|letter| id_of(&letter["message"])).collect::<Vec<_>>();
    let expect: Vec<String> = ids(&first).into_iter().filter(|id| !ids(&left).contains(id)).collect();
    assert_eq!(taken, expect);
    let of_first: Vec<String> = receiver
        .got()
        .iter()
        .filter(|got| got.ids() == [ids(&first)[0].clone()])
        .map(|got| got.id().to_owned())
        .collect();
    assert!(of_first.len() >= 3 && of_first[1..].iter().all(|id| id.contains("-again-")), "{of_first:?}");

    // A receiver that is away ends a replay; what is left stays.
    receiver.answer(|_| 503.into());
    dead(&folder, "replay", &["--all"]).assert_error(1, &["it fails (503)", "the others are kept"]);
    assert_eq!(letters(&folder).len(), left.len());
    let id = left[0]["id"].as_str().unwrap();
    let told = dead(&folder, "drop", &[id]).assert_ok().out;
    assert!(told.contains("1 dead letters of sink hook dropped"), "{told}");
    let audit = folder.retag(&["rule", "history"]).assert_ok().out;
    for said in ["(sink hook)", "sink dead replay --all", "it is mended", &format!("sink dead drop {id}")] {
        assert!(audit.contains(said), "{audit}");
    }
    dead(&folder, "drop", &[id]).assert_error(1, &["unknown-letter", id]);
    dead(&folder, "replay", &["nonsense"]).assert_error(1, &["unknown-letter"]);
    dead(&folder, "drop", &[]).assert_error(64, &["<IDS>"]);
    folder.retag(&["sink", "dead", "drop", "out", "--all"]).assert_error(1, &["no-dead-letters", "out"]);
    folder.retag(&["sink", "dead", "ls", "nobody"]).assert_error(1, &["unknown-sink"]);
    host.signal("TERM");
    host.wait().assert_ok();
    dead(&folder, "drop", &["--all"]).assert_error(1, &["no-host"]);
    assert_eq!(letters(&folder).len(), left.len() - 1, "they are there when no host runs too");
    let host = follow(&folder);
    dead(&folder, "drop", &["--all"]).assert_ok();
    assert!(letters(&folder).is_empty());
    assert_eq!(hook(&folder).unwrap()["dead_letters"], 0);
    host.signal("TERM");
    host.wait().assert_ok();
}

#[test]
fn dead_letters_are_bounded_and_the_sink_holds() {
    let receiver = refusing(&['3', '7']);
    let folder = folder(&url(&receiver), "dead_letters_max = 2");
    Shop::new(42, USERS).write(&folder, 400);
    let mut host = follow(&folder);
    let said = waits(&mut host, &folder);
    assert!(said.contains("2 of at most 2 are kept") && said.contains("no such user"), "{said}");
    assert_eq!(letters(&folder).len(), 2);
    dead(&folder, "drop", &["--all"]).assert_ok();
    host.until("the next two", || (letters(&folder).len() == 2).then_some(()));
    receiver.answer(|_| 200.into());
    let written = read(&mut host, &folder);
    let taken = || receiver.taken().iter().map(id_of).collect::<BTreeSet<String>>().len();
    host.until("all but those that were dropped", || {
        dead(&folder, "replay", &["--all"]).assert_ok();
        (taken() + 2 == written).then_some(())
    });
    host.signal("TERM");
    host.wait().assert_ok();
    assert!(letters(&folder).is_empty());
}

#[test]
fn dead_letters_keep_a_sink_from_being_forgotten_unasked() {
    let receiver = refusing(&['3']);
    let folder = folder(&url(&receiver), "");
    Shop::new(43, USERS).write(&folder, 300);
    folder.run().assert_ok();
    assert!(!letters(&folder).is_empty());
    let with = folder.read("retag.toml");
    let (before, rest) = with.split_once("[sinks.hook]").unwrap();
    let without = format!("{before}[sinks.{}", rest.split_once("\n[sinks.").unwrap().1);
    folder.write("retag.toml", without);
    for _ in 0..2 {
        folder.run().assert_error(1, &["sink-missing", "hook", "dead letters"]);
    }
    folder.run_with(&["--drop-sink", "hook"]).assert_ok();
    folder.run().assert_ok();
    folder.write("retag.toml", with);
    folder.run().assert_ok();
    assert!(letters(&folder).is_empty(), "letters of a sink that was dropped");
}
