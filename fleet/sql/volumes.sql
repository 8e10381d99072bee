-- Volumes by file system, placement and who provisions them, with their bytes.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    volumes.volume_fs_type AS file_system,
    volumes.volume_placement_strategy AS placement,
    regexp_replace(volumes.volume_provision_source_user_agent, '/.*$', '') AS provisioner,
    count(*) AS volumes,
    sum(CAST(coalesce(volumes.volume_size_bytes, 0) AS DECIMAL(38, 0))) AS bytes
FROM volumes
JOIN reports ON volumes.report_id = reports.report_id
JOIN cluster_days ON volumes.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3 NULLS LAST, 4 NULLS LAST, 5 NULLS LAST
