-- The fleet over time: clusters, nodes, volumes and bytes by day.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    count(DISTINCT cluster_days.cluster) AS clusters,
    sum(reports.n_nodes) AS nodes,
    sum(reports.n_volumes) AS volumes,
    sum(CAST(coalesce(reports.sum_total, 0) AS DECIMAL(38, 0))) AS bytes
FROM reports JOIN cluster_days ON reports.report_id = cluster_days.report_id
GROUP BY 1, 2
ORDER BY 1, 2
