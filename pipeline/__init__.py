"""Camera+LiDAR anomaly detection on AnoVox: data, models, training, evaluation."""
