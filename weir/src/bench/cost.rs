//! What a run cost: device flushes and writes, and the CPU time of every other `weir` process here.

use std::collections::BTreeMap;
use std::fs;

/// Counters at one moment, or their difference. `None` where this machine does not tell.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    pub device_flushes: Option<f64>,
    pub device_writes: Option<f64>,
    pub device_bytes: Option<f64>,
    pub server_core_s: Option<f64>,
    /// CPU seconds of each process.
    processes: BTreeMap<u32, f64>,
    pub server_rss_mib: Option<f64>,
}

impl Cost {
    pub fn now() -> Self {
        let device = device_stat();
        let field = |at: usize| device.as_ref().and_then(|fields| fields.get(at).copied());
        let (processes, rss_mib) = servers();
        Self {
            // Documentation/block/stat: writes, sectors of 512 bytes written, flushes.
            device_writes: field(4),
            device_bytes: field(6).map(|sectors| sectors * 512.0),
            device_flushes: field(15),
            server_core_s: (!processes.is_empty()).then(|| processes.values().sum()),
            server_rss_mib: rss_mib,
            processes,
        }
    }

    /// What happened since `before`; memory is as it is now.
    pub fn since(self, before: Self) -> Self {
        let minus = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
        Self {
            device_flushes: minus(self.device_flushes, before.device_flushes),
            device_writes: minus(self.device_writes, before.device_writes),
            device_bytes: minus(self.device_bytes, before.device_bytes),
            // A process that began meanwhile counts from its beginning; what one that ended had used is not known.
            server_core_s: self
                .server_core_s
                .map(|_| self.processes.iter().map(|(id, now)| now - before.processes.get(id).unwrap_or(&0.0)).sum()),
            server_rss_mib: self.server_rss_mib,
            processes: self.processes,
        }
    }
}

/// The counters of the device below the current folder.
fn device_stat() -> Option<Vec<f64>> {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(".").ok()?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().filter_map(|field| field.parse().ok()).collect())
}

/// CPU seconds and resident MiB of all processes of this program but this one.
fn servers() -> (BTreeMap<u32, f64>, Option<f64>) {
    let me = std::process::id().to_string();
    let Ok(name) = fs::read_to_string("/proc/self/comm") else { return (BTreeMap::new(), None) };
    // SAFETY: asks for two constants.
    let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK) as f64, libc::sysconf(libc::_SC_PAGESIZE) as f64) };
    let (mut processes, mut bytes) = (BTreeMap::new(), 0.0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let is_number = pid.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || pid == me || fs::read_to_string(entry.path().join("comm")).ok().as_ref() != Some(&name) {
            continue;
        }
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<f64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        // proc(5): utime and stime are fields 14 and 15, rss is field 24; the first two are cut off here.
        let seconds = (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / ticks;
        processes.insert(pid.parse().unwrap_or(0), seconds);
        bytes += fields.get(21).unwrap_or(&0.0) * page;
    }
    (processes, Some(bytes / 1024.0 / 1024.0))
}
