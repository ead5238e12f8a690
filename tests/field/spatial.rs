//! Spatial reference systems that users have made.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, flavor};

const FLAT: &str = "'PROJCS[\"it\\'s \\\\ flat\",GEOGCS[\"Unknown\",DATUM[\"Unknown\",\
    SPHEROID[\"Unknown\",6378137,298.257223563]],PRIMEM[\"Greenwich\",0],\
    UNIT[\"degree\",0.017453292519943278],AXIS[\"Lon\",EAST],AXIS[\"Lat\",NORTH]],\
    PROJECTION[\"Mercator\"],UNIT[\"metre\",1],AXIS[\"X\",EAST],AXIS[\"Y\",NORTH]]'";

#[test]
fn spatial_reference_systems_of_users_are_carried() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::new("spatial");
    let replica = Replica::start(&scene.primary);
    let made = |id: u32, name: &str, more: &str| {
        format!(
            "CREATE OR REPLACE SPATIAL REFERENCE SYSTEM {id} NAME '{name}' DEFINITION {FLAT} {more}"
        )
    };
    let other = "ORGANIZATION 'we''re é' IDENTIFIED BY 7 DESCRIPTION 'a\\\\\\'b'";
    scene.primary.sql(&made(990_001, "x\\\\ '' é", other));
    scene.primary.sql(&made(990_002, "unused", "DESCRIPTION ''"));
    // Also in place of the server's own, under the name of one.
    scene.primary.sql("DROP SPATIAL REFERENCE SYSTEM 4120; DROP SPATIAL REFERENCE SYSTEM 2001");
    scene.primary.sql(&made(2000, "Greek", ""));
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.place (id INT PRIMARY KEY, \
         at POINT NOT NULL SRID 990001, SPATIAL INDEX (at)); \
         INSERT INTO shop.place VALUES (1, ST_GeomFromText('POINT(1 2)', 990001))",
    );
    scene.seed();
    scene.primary.sql(
        "CREATE TABLE shop.later (id INT PRIMARY KEY, at POINT NOT NULL SRID 990002); \
         INSERT INTO shop.later VALUES (1, ST_GeomFromText('POINT(3 4)', 990002))",
    );
    scene.primary.sql(&made(2001, "again", "").replace("OR REPLACE ", ""));
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    let restored = Server::start_on(&scene.restore(None));
    let all = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT_WS('|', srs_id, srs_name, definition, \
               IFNULL(organization, '-'), IFNULL(organization_coordsys_id, '-'), \
               IFNULL(description, '-'))))) FROM information_schema.st_spatial_reference_systems";
    assert_eq!(restored.value(all), scene.primary.value(all));
    // One that the binary log does not have.
    let mut running = scene.command("seed").args(["--from", "dump"]).spawn();
    running.wait_for_log("dumped and loaded", COMMAND_PATIENCE);
    scene.primary.sql("SET SESSION sql_log_bin = 0");
    scene.primary.sql(&made(990_003, "unlogged", ""));
    let ended = running.finish(COMMAND_PATIENCE);
    ended.says("spatial reference system 990003: is missing in the backup");
}
