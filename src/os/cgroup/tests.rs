//! Fake cgroup files of both versions, and the numbers read from them.

use super::*;

/// A stand-in for `/sys/fs/cgroup`.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str, files: &[(&str, &str)]) -> Mount {
        let name = format!("rf-unit-cgroup-{name}-{}", std::process::id());
        let mount = Mount(std::env::temp_dir().join(name));
        for (path, text) in files {
            mount.write(path, text);
        }
        mount
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn limit(&self, text: &str) -> Option<u64> {
        cgroups(text, &self.0).iter().filter_map(Cgroup::limit).min()
    }

    fn room(&self, text: &str) -> Option<u64> {
        cgroups(text, &self.0).iter().filter_map(Cgroup::room).min()
    }

    fn kills(&self, text: &str) -> u64 {
        count_kills(&cgroups(text, &self.0), "oom_kill 77\n")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn version_1_tells_limit_room_and_kills() {
    let none = "9223372036854771712\n";
    let mount = Mount::new(
        "v1",
        &[
            ("memory/memory.limit_in_bytes", none),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 9\n"),
            ("memory/a/memory.limit_in_bytes", "230686720\n"),
            ("memory/a/memory.usage_in_bytes", "104857600\n"),
            ("memory/a/memory.stat", "cache 1\ntotal_inactive_file 52428800\n"),
            ("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory/a/b/memory.limit_in_bytes", none),
            ("memory/a/b/memory.oom_control", "under_oom 0\n"),
        ],
    );
    let text = "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n";
    assert_eq!(mount.limit(text), Some(220 * MIB));
    assert_eq!(mount.room(text), Some(170 * MIB));
    let before = mount.kills(text);
    // A higher count in an ancestor does not hide ours.
    mount.write("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    assert_eq!(mount.kills(text), before + 1);
    // In a container the path is often that of the host, and only the root of the mount exists.
    mount.write("memory/memory.limit_in_bytes", "1048576\n");
    assert_eq!(mount.limit("4:memory:/docker/0123\n"), Some(MIB));
}

#[test]
fn version_2_tells_limit_room_and_kills() {
    let mount = Mount::new(
        "v2",
        &[
            ("s/memory.max", "1073741824\n"),
            ("s/memory.current", "209715200\n"),
            ("s/memory.stat", "anon 9\ninactive_file 52428800\nactive_file 52428800\n"),
            ("s/memory.events", "low 0\nhigh 0\nmax 40\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("s/u/memory.max", "max\n"),
            ("s/u/memory.high", "536870912\n"),
            ("s/u/memory.events", "low 0\noom 0\noom_kill 0\n"),
        ],
    );
    let text = "0::/s/u\n";
    assert_eq!(mount.limit(text), Some(1024 * MIB));
    assert_eq!(
        mount.room(text),
        Some(512 * MIB),
        "the soft limit throttles before the other kills"
    );
    let before = mount.kills(text);
    mount.write("s/u/memory.events", "low 0\noom 1\noom_kill 1\n");
    assert_eq!(mount.kills(text), before + 1);
}

#[test]
fn without_cgroups_there_is_no_limit_and_the_machine_counts() {
    let mount = Mount::new("none", &[]);
    for text in ["", "0::/\n", "4:memory:/a\n", "nonsense"] {
        assert_eq!((mount.limit(text), mount.room(text)), (None, None));
        assert_eq!(mount.kills(text), 77);
    }
}

#[test]
fn limits_of_address_space_and_data_are_read() {
    let text = |space: &str, data: &str| {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max cpu time              unlimited            unlimited            seconds   \n\
             Max data size             {data:20} unlimited            bytes     \n\
             Max address space         {space:20} unlimited            bytes     \n"
        )
    };
    assert_eq!(limit_of_space(&text("unlimited", "unlimited")), None);
    assert_eq!(limit_of_space(&text("300000000", "unlimited")), Some(300_000_000));
    assert_eq!(limit_of_space(&text("300000000", "200")), Some(200));
    assert_eq!(limit_of_space(""), None);
}
