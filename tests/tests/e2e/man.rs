//! Every command has a manual page.

use crate::harness::Folder;

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new();
    folder.retag(&["man", "pages"]).assert_ok();
    let help = folder.retag(&["--help"]).assert_ok().out;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let page = folder.read(&format!("pages/retag-{name}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(folder.read("pages/retag-run.1").contains("until\\-end"));
    folder.write("file", "");
    folder.retag(&["man", "file/pages"]).assert_error(1, &["file/pages", "Not a directory"]);
}
