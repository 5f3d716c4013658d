"""UR4Rec: SASRec and a retriever over item and preference texts, fused (report 001). The class is in `system`."""
