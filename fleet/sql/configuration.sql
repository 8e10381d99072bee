-- Configuration: how many reports say yes and no to each setting of the cluster.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    settings.setting AS setting,
    settings.value AS value,
    count(*) AS reports
FROM (
    SELECT report_id, 'tls' AS setting, CASE WHEN cluster_tls_provided THEN 'on' ELSE 'off' END AS value
    FROM reports WHERE cluster_tls_provided IS NOT NULL
    UNION ALL
    SELECT report_id, 'scheduler extender' AS setting, CASE WHEN k8s_scheduler_extender_enabled THEN 'on' ELSE 'off' END AS value
    FROM reports WHERE k8s_scheduler_extender_enabled IS NOT NULL
    UNION ALL
    SELECT report_id, 'crash reports' AS setting, CASE WHEN cluster_disable_crash_reporting THEN 'off' ELSE 'on' END AS value
    FROM reports WHERE cluster_disable_crash_reporting IS NOT NULL
    UNION ALL
    SELECT report_id, 'version check' AS setting, CASE WHEN cluster_disable_version_check THEN 'off' ELSE 'on' END AS value
    FROM reports WHERE cluster_disable_version_check IS NOT NULL
    UNION ALL
    SELECT report_id, 'log level' AS setting, cluster_log_level AS value
    FROM reports WHERE cluster_log_level IS NOT NULL
    UNION ALL
    SELECT report_id, 'log format' AS setting, cluster_log_format AS value
    FROM reports WHERE cluster_log_format IS NOT NULL
    UNION ALL
    SELECT report_id, 'etcd over tls' AS setting,
        CASE WHEN min(CASE WHEN node_etcd_tls_enabled THEN 1 ELSE 0 END) = 1 THEN 'on' ELSE 'off' END AS value
    FROM nodes WHERE node_etcd_tls_enabled IS NOT NULL
    GROUP BY report_id
    UNION ALL
    SELECT report_id, 'http over tls' AS setting,
        CASE WHEN min(CASE WHEN node_http_tls_enabled THEN 1 ELSE 0 END) = 1 THEN 'on' ELSE 'off' END AS value
    FROM nodes WHERE node_http_tls_enabled IS NOT NULL
    GROUP BY report_id
) AS settings
JOIN cluster_days ON settings.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
