-- The shape of clusters: how many reports have so many nodes and volumes. Quantiles follow from it.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    reports.n_nodes AS nodes,
    reports.n_volumes AS volumes,
    count(*) AS reports
FROM reports JOIN cluster_days ON reports.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
