-- Capacity: reports by the power of two that their bytes reach, with what of them is used and what is promised to volumes and
-- their replicas.
WITH
    promised AS (
        SELECT
            report_id,
            sum(CAST(coalesce(volume_size_bytes, 0) AS DECIMAL(38, 0)) * (1 + coalesce(volume_replicas, 0))) AS bytes
        FROM volumes
        GROUP BY report_id
    ),
    sizes AS (
        SELECT
            cluster_days.day AS day,
            cluster_days.confirmed AS confirmed,
            CASE WHEN reports.sum_total > 0 THEN floor(log2(reports.sum_total)) ELSE NULL END AS log2_bytes,
            CAST(coalesce(reports.sum_total, 0) AS DECIMAL(38, 0)) AS total,
            CAST(coalesce(reports.sum_available, 0) AS DECIMAL(38, 0)) AS available,
            coalesce(promised.bytes, 0) AS promised
        FROM reports
        JOIN cluster_days ON reports.report_id = cluster_days.report_id
        LEFT JOIN promised ON reports.report_id = promised.report_id
    )
SELECT
    day,
    confirmed,
    log2_bytes,
    count(*) AS reports,
    sum(total) AS sum_total,
    sum(available) AS sum_available,
    sum(promised) AS sum_promised
FROM sizes
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3 NULLS LAST
