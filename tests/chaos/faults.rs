//! What goes wrong, one thing after the other and some at once, by a seed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::{Pid, Signal};
use tokio::task::JoinSet;
use tollgate::database::embedded::EmbeddedCluster;

use crate::{
    fleet::{Fleet, Seat},
    relay::Weather,
};

/// Between the beginnings of two faults.
const PAUSE: Duration = Duration::from_millis(1_500);
/// The longest that anything is frozen, cut or full: beyond a server's heartbeat deadline.
const LONGEST: Duration = Duration::from_secs(8);
/// How far a server's clock is moved at most, in seconds.
const FARTHEST_CLOCK: i64 = 90;

/// The database's side of what can go wrong.
pub(crate) struct DatabaseSide<'a> {
    pub(crate) cluster: &'a EmbeddedCluster,
    /// A file system of its own that can be filled, where we may mount one.
    pub(crate) disk: Option<&'a Disk>,
}

/// Injects faults until the deadline, then heals everything. What was injected, by kind.
pub(crate) async fn inject(
    fleet: &Fleet,
    database: DatabaseSide<'_>,
    moves_clocks: bool,
    mut rng: Rng,
    deadline: Instant,
) -> BTreeMap<&'static str, u64> {
    let mut injected = BTreeMap::new();
    // Each is healed by a task of its own; of one kind at one place there may be two at once.
    let mut healing = JoinSet::new();
    while Instant::now() < deadline {
        tokio::time::sleep(PAUSE.mul_f32(rng.f32() * 2.0)).await;
        let seat = Arc::clone(&fleet.seats[rng.usize(..fleet.seats.len())]);
        let time = LONGEST.mul_f32(rng.f32() * rng.f32());
        let fault = match rng.u32(..100) {
            0..16 => {
                seat.kill().await;
                "server killed"
            }
            16..22 => {
                seat.terminate().await;
                "server stopped in order"
            }
            22..34 => {
                if !seat.freeze().await {
                    continue;
                }
                healing.spawn(async move {
                    tokio::time::sleep(time).await;
                    seat.thaw().await;
                });
                "server frozen"
            }
            34..40 => {
                let Some(postmaster) = database.cluster.postmaster_pid() else { continue };
                send(postmaster, Signal::KILL);
                "Postgres killed"
            }
            40..46 => {
                let processes = processes_in(database.cluster.data_dir());
                send_all(&processes, Signal::STOP);
                healing.spawn(async move {
                    tokio::time::sleep(time / 2).await;
                    send_all(&processes, Signal::CONT);
                });
                "Postgres frozen"
            }
            46..66 => {
                let weather = weather(&mut rng);
                seat.outlet.set(weather);
                healing.spawn(clear(Arc::clone(&seat), time, |seat| &seat.outlet));
                named(weather, ["database slow", "database silent", "database cut off"])
            }
            66..82 => {
                let weather = weather(&mut rng);
                seat.inlet.set(weather);
                healing.spawn(clear(Arc::clone(&seat), time, |seat| &seat.inlet));
                named(weather, ["clients slow", "clients silent", "clients cut off"])
            }
            82..90 => {
                let Some(disk) = database.disk else { continue };
                disk.fill();
                let filled = disk.filling();
                healing.spawn(async move {
                    tokio::time::sleep(time / 2).await;
                    let _ = fs::remove_file(filled);
                });
                "disk full"
            }
            _ => {
                if !moves_clocks {
                    continue;
                }
                seat.set_clock(rng.i64(-FARTHEST_CLOCK..=FARTHEST_CLOCK));
                "clock moved"
            }
        };
        *injected.entry(fault).or_default() += 1;
    }
    while healing.join_next().await.is_some() {}
    for seat in &fleet.seats {
        seat.thaw().await;
        seat.inlet.set(Weather::Clear);
        seat.outlet.set(Weather::Clear);
        seat.set_clock(0);
    }
    injected
}

fn weather(rng: &mut Rng) -> Weather {
    match rng.u32(..3) {
        0 => Weather::Slow(Duration::from_millis(rng.u64(5..200))),
        1 => Weather::Silent,
        _ => Weather::Cut,
    }
}

const fn named(weather: Weather, names: [&'static str; 3]) -> &'static str {
    match weather {
        Weather::Clear | Weather::Slow(_) => names[0],
        Weather::Silent => names[1],
        Weather::Cut => names[2],
    }
}

async fn clear(seat: Arc<Seat>, time: Duration, link: fn(&Seat) -> &crate::relay::Link) {
    tokio::time::sleep(time).await;
    link(&seat).set(Weather::Clear);
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended already.
    let _ = rustix::process::kill_process(pid, signal);
}

fn send_all(processes: &[u32], signal: Signal) {
    for pid in processes {
        send(*pid, signal);
    }
}

/// Postgres's processes work in their cluster's directory, below this one.
fn processes_in(directory: &Path) -> Vec<u32> {
    let directory = directory.canonicalize().unwrap();
    let of = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let works_in = fs::read_link(entry.path().join("cwd")).ok()?;
        works_in.starts_with(&directory).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

/// A small file system in memory; what is mounted ends with it.
pub(crate) struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    /// `None` where we may not mount.
    pub(crate) fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let size = format!("size={mebibytes}m,mode=0711");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tollgate-chaos"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self { mounted_at: at.to_owned() })
    }

    fn filling(&self) -> PathBuf {
        self.mounted_at.join("filling")
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut file = File::create(self.filling()).unwrap();
        let block = vec![1; 1 << 20];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: Postgres may still be leaving.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted_at).status();
    }
}
