// Made by `python -m tools.rules` from tools/rules/table.py; change it there.
{
  _config+:: {
    // Address of the runbook, up to the `#`; each alert links to its entry there.
    runbookUrl: 'https://docs.example.com/cdn77-exporter/operations/',
    // Which targets are exporters.
    exporterSelector: 'job="cdn77-exporter"',
    // How long a problem lasts before it is an alert.
    problemFor: '1m',
    // Problems with which numbers are missing now; the others are warnings.
    criticalProblems: 'bucket|no_files|files_elsewhere|reading|format|decoders|receiver|delivery|lease|state|state_file|clock_doubtful',
    // What is no problem but a process that does not count yet.
    waitingProblems: 'start|standby',
    // How long an exporter is away before it is an alert.
    downFor: '2m',
    // From when on the numbers are behind.
    behindSeconds: 300,
    // From when on they are far behind.
    farBehindSeconds: 1800,
    // For how long the bucket cannot be listed.
    pollSeconds: 300,
    // For how long the receiver accepts nothing.
    pushSeconds: 300,
    // How many restarts in half an hour are usual.
    restarts: 3,
    // Which part of the requests that are counted is in Prometheus at least.
    deliveredRatio: 0.9,
    // Which part of the events may be late.
    lateRatio: 0.02,
    // Which part of the log lines may be rejected.
    rejectsRatio: 0.005,
    // In which part of the requests a field may be malformed.
    ignoredFieldsRatio: 0.1,
    // How far the exporter's clock may be off the bucket's.
    clockSkewSeconds: 60,
    // How old the GeoIP database may be.
    geoipDays: 60,
    // Requests a second below which a stream or a CDN is too small to be judged.
    minRequests: 1,
    // Viewers below which a stream is too small to be judged.
    minViewers: 20,
    // Which part of a stream's answers may be 5xx for five minutes.
    serverErrorRatio: 0.05,
    // Which part of the usual hit ratio is too little.
    hitRatioDrop: 0.8,
    // Which part of the most viewers in three hours is too little.
    viewersDrop: 0.5,
    // Which part of the usual requests is too little.
    trafficDrop: 0.3,
    // Which part of a stream's answers may be 5xx in 30 days.
    errorBudget: 0.005,
    // Which part of 30 days an exporter may deliver nothing, or late.
    deliveryBudget: 0.005,
  },
}
