//! Data directories that were made with other settings than a server has by itself.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Rollforward, Scene, as_told, assert_same, flavor, snapshot};

/// Small pages, two files, and one case of letters: the data says so, and the passes after it go on.
#[test]
fn a_directory_of_unusual_layout_is_adopted_and_followed() {
    need_server!();
    let files = "--innodb-data-file-path=ibdata1:16M;more.ibdata:16M:autoextend";
    let options = ["--lower-case-table-names=1", "--innodb-page-size=8192", files];
    let mut scene = Scene::with("layout", &options);
    scene.primary.sql("CREATE DATABASE Shop; CREATE TABLE Shop.First (a INT PRIMARY KEY)");
    // Enough to need the second file.
    if !flavor::is_mysql() {
        scene.primary.sql("SET GLOBAL innodb_file_per_table = OFF");
    }
    scene.primary.fill("shop", 2, 20_000);
    let source = scene.primary.datadir().to_path_buf();
    scene.primary.stop();
    // Neither account nor primary is named.
    Rollforward::new(["seed", &format!("--from=dir:{}", source.display())])
        .args([format!("--repo={}", scene.repo.display())])
        .args([format!("--scratch={}", scene.scratch.display())])
        .args(scene.mysqld())
        .run_to_end(COMMAND_PATIENCE)
        .expect(0);
    scene.primary.restart();
    scene
        .primary
        .sql("CREATE TABLE SHOP.Second (a INT PRIMARY KEY); INSERT INTO shop.FIRST VALUES (1)");
    scene.run().expect(0);
    scene.primary.sql("INSERT INTO shop.SECOND VALUES (2)");
    scene.run().expect(0);
    let (restored, given) = as_told(&scene);
    assert_eq!(given.len(), 3, "{given:?}");
    assert_same("ours", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
    assert_eq!(restored.value("SELECT MAX(a) FROM shop.second"), "2");
}
