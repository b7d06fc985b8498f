//! `retag dev`: a rule crate that is saved becomes live labels on the host beside it; what does not compile changes nothing.

use crate::backfill::caught_up;
use crate::harness::{Folder, binary, root};
use crate::message::{shop, told};
use crate::release::rule;
use retag_host::clock::moment;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Cargo builds in here, beside other tests.
const LIMIT: Duration = Duration::from_secs(300);

fn dev(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["dev", "buyers"]).args(args).current_dir(folder.path("."));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One round; what it said, and whether it went well.
fn once(folder: &Folder, args: &[&str]) -> (bool, String) {
    let ended = dev(folder, &[&["--once"], args].concat()).output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.success(), text(&ended.stdout) + &text(&ended.stderr))
}

/// Replaces a piece of the crate's source.
fn save(folder: &Folder, from: &str, to: &str) {
    let source = folder.read("buyers/src/lib.rs");
    assert!(source.contains(from), "no `{from}` in\n{source}");
    folder.write("buyers/src/lib.rs", source.replacen(from, to, 1));
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

#[test]
fn every_save_is_tested_built_and_made_live() {
    let folder = shop();
    let (ok, said) = once(&folder, &[]);
    assert!(!ok && said.contains("retag run"), "no host runs: {said}");
    let mut host = folder.start(&["run"], &[]);
    caught_up(&mut host, &folder);
    folder.retag(&["rule", "init", "buyers"]).assert_ok();
    let payer = root().join("rules/payer");
    folder.write("buyers/src/lib.rs", std::fs::read(payer.join("src/lib.rs")).expect("the rule's source"));
    std::fs::remove_dir_all(folder.path("buyers/scenarios")).expect("the scenarios of another rule");
    std::fs::create_dir(folder.path("buyers/scenarios")).expect("a folder");
    for scenario in std::fs::read_dir(payer.join("scenarios")).expect("scenarios").flatten() {
        std::fs::copy(scenario.path(), folder.path("buyers/scenarios").join(scenario.file_name()))
            .expect("a copy");
    }
    // User 1 has spent 3000.00. A test that fails stops the round before anything is pushed.
    save(&folder, "lit(\"2000.00\")", "lit(\"4000.00\")");
    let (ok, said) = once(&folder, &[]);
    assert!(!ok && said.contains("native tests") && !said.contains("payer@2"), "{said}");
    save(&folder, "lit(\"4000.00\")", "lit(\"2500.00\")");
    let mut bless = Command::new(binary());
    bless.args(["rule", "test", "buyers", "--bless"]).current_dir(folder.path("."));
    assert!(bless.output().expect("the binary starts").status.success());
    let (ok, said) = once(&folder, &[]);
    assert!(ok && said.contains("payer@2 is live since commit"), "{said}");
    let (ok, said) = once(&folder, &["--skip-tests"]);
    assert!(ok && said.contains("nothing to change"), "{said}");

    let mut watching = Ends(
        dev(&folder, &["--skip-tests"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts"),
    );
    let mut live = |revision: &str| {
        let begin = moment();
        while !rule(&folder, &["ls", "payer"]).lines().any(|l| l.starts_with(revision) && l.contains("live"))
        {
            assert!(watching.0.try_wait().expect("a child's status").is_none(), "it ended before {revision}");
            assert!(begin.elapsed() < LIMIT, "{revision} does not come");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    live("payer@2");
    save(&folder, "lit(\"2500.00\")", "lit(\"3500.00\")");
    live("payer@3");
    save(&folder, "lit(\"3500.00\")", "nonsense");
    save(&folder, "nonsense", "lit(\"2900.00\")");
    live("payer@4");
    drop(watching);
    host.until("what the saves told", || (told(&folder).len() >= 4).then_some(()));
    assert_eq!(told(&folder)[2..], ["1 -tier", "1 tier=silver"]);
    let history = rule(&folder, &["history", "payer"]);
    assert!(history.contains("retag dev"), "{history}");
    host.signal("INT");
    host.wait().assert_ok();
}
