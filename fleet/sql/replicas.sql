-- Replicas: volumes and their bytes by number of replicas, and how many clusters have such volumes.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    volumes.volume_replicas AS replicas,
    count(DISTINCT cluster_days.cluster) AS clusters,
    count(*) AS volumes,
    sum(CAST(coalesce(volumes.volume_size_bytes, 0) AS DECIMAL(38, 0))) AS bytes
FROM volumes
JOIN reports ON volumes.report_id = reports.report_id
JOIN cluster_days ON volumes.report_id = cluster_days.report_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3 NULLS LAST
